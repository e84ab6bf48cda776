"""Slices to volumes: groups, scores and decisions, against written-out twins."""

from pathlib import Path

import pytest

from datasets.folders.find import find_split
from datasets.folders.samples import Sample, Split
from engine.evaluate.reductions import volume_score
from engine.evaluate.volumes import VolumeRule, volumes_of
from tests.volume_sets import write_volumes

SCORES = [0.3, 0.9, 0.1, 0.5, 0.7, 0.2, 0.4]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("max", 0.9), ("mean", 3.1 / 7), ("top_k_mean", (0.9 + 0.7 + 0.5 + 0.4 + 0.3) / 5)],
)
def test_a_volume_has_one_score_whatever_the_order_of_its_slices(reduction, expected):
    assert volume_score(SCORES, reduction) == pytest.approx(expected)
    assert volume_score(SCORES[::-1], reduction) == pytest.approx(expected)
    assert volume_score([0.25], reduction) == 0.25


def test_fewer_than_five_slices_are_all_averaged():
    assert volume_score([0.1, 0.2, 0.6], "top_k_mean") == pytest.approx(0.3)


def test_slices_are_grouped_by_file_and_one_anomalous_slice_decides(tmp_path):
    split = find_split(write_volumes(tmp_path), key="TEST_DATA_PATH")
    volumes = volumes_of(split)
    assert [volume.name.name for volume in volumes] == [
        *("p1_3.nii.gz", "p2_4.nii.gz", "p2_5.nii.gz"),
        *("p0_0.nii.gz", "p0_1.nii.gz", "p1_2.nii.gz"),
    ]
    assert [volume.label for volume in volumes] == [1, 1, 1, 0, 0, 0]
    for volume in volumes:
        mine = [i for i, sample in enumerate(split.samples) if sample.path == volume.name]
        assert list(volume.indices) == mine
        assert len(mine) == 6


def test_pictures_and_pages_of_tiff_files_are_no_volumes():
    samples = (Sample(Path("a.png"), 0), Sample(Path("b.tif"), 0, frame=1))
    assert volumes_of(Split(Path(), samples, has_masks=False)) == []


@pytest.mark.parametrize(
    ("volume_threshold", "threshold", "expected"),
    [(0.8, 0.9, 1), (0.9, 0.1, 0), (None, 0.8, 1), (None, 0.9, 0), (None, None, None)],
)
def test_a_volume_is_called_by_its_own_threshold_else_by_its_worst_slice(
    volume_threshold, threshold, expected
):
    cells = VolumeRule("max", volume_threshold, threshold).cells([0.2, 0.8, 0.5])
    assert (cells.score, cells.predicted) == (0.8, expected)


@pytest.mark.parametrize("volume_threshold", [None, 0.5])
def test_a_volume_of_which_nothing_counts_has_no_verdict(volume_threshold):
    assert VolumeRule("max", volume_threshold, 0.5).cells([]) == (0.0, None, 0, 0)
