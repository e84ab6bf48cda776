"""Phantoms of whole heads: smooth along the axis, lesions that are balls, files in one space."""

import nibabel
import numpy as np
import pytest

from datasets.folders.find import find_split
from datasets.phantom import write_volumes
from datasets.phantom.volume import add_ball, draw_head
from datasets.phantom.write_volumes import write_volume_dataset
from datasets.readers.image import read_image, read_mask
from datasets.volumes.grid import grid_of
from engine.evaluate.volumes import volumes_of
from utils.errors import UserError
from utils.intensity import IntensityWindow

TINY = {"size": 24, "slices": 20, "valid_good": 1, "valid_ungood": 1, "test_good": 0, "train": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes") / "set"
    assert write_volume_dataset(folder, test_ungood=3, seed=4, **TINY)
    return folder


def test_a_head_changes_smoothly_and_shrinks_to_the_vertex():
    image = draw_head(np.random.default_rng(0), 32, 30).image.astype(float)
    steps = np.abs(np.diff(image, axis=0)).mean(axis=(1, 2))
    assert steps.max() < 0.6 * np.abs(image[12] - image[25]).mean()
    area = (image > 30).sum(axis=(1, 2))
    assert area.argmax() in range(8, 16)
    assert (np.diff(area[16:28]) <= 6).all()
    assert area[-1] == 0


def test_a_lesion_is_a_ball_in_millimetres():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        head = draw_head(rng, 64, 30)
        before = head.image
        after, mask = add_ball(rng, head, bright=seed % 2 == 0)
        assert np.array_equal(after[mask == 0], before[mask == 0])
        change = (after.astype(int) - before)[mask > 0].mean()
        assert change > 20 if seed % 2 == 0 else change < -20
        where = np.argwhere(mask > 0) * (5, 218 / 64, 218 / 64)
        reach = np.linalg.norm(where - where.mean(axis=0), axis=1).max()
        assert 8 < reach < 32
        extent = np.ptp(where, axis=0)
        assert extent.max() < 2 * extent.min()


def test_nifti_files_series_and_masks_are_volumes_of_one_space(folder):
    split = find_split(folder / "test", key="TEST_DATA_PATH")
    names = [volume.name.name for volume in volumes_of(split)]
    assert names == ["test_ungood_00.nii.gz", "test_ungood_01.nii.gz", "test_ungood_02"]
    (series,) = {sample.series for sample in split.samples if sample.series is not None}
    image = nibabel.load(folder / "test/Ungood/img/test_ungood_00.nii.gz")
    assert image.header.get_zooms() == pytest.approx((218 / 24, 218 / 24, 7.5))
    # The series' rows run upwards in its grid.
    flipped = grid_of(series)
    corners = [affine @ (0, row, 0, 1) for affine, row in ((flipped.affine, 23), (image.affine, 0))]
    assert corners[0] == pytest.approx(corners[1], abs=1e-3)
    marked = [sample for sample in split.samples if sample.mask is not None]
    assert {sample.volume_name.name for sample in marked} == set(names)
    for sample in marked:
        assert read_mask(sample.mask, sample.frame, image=sample.source).any()
        assert read_image(sample.source, IntensityWindow(), sample.frame).any()


def test_the_same_seed_writes_the_same_files(folder, tmp_path, capsys):
    options = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    for expected in ("drawn", "already there"):
        write_volumes.main(
            ["--output", str(tmp_path / "set"), "--test-ungood=3", "--seed=4", *options]
        )
        assert expected in capsys.readouterr().out
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "set" / file).read_bytes()
    with pytest.raises(UserError, match="other settings"):
        write_volume_dataset(tmp_path / "set", test_ungood=3, seed=5, **TINY)


@pytest.mark.parametrize("wrong", [{"slices": 8}, {"seed": -1}])
def test_numbers_without_sense_are_an_error(tmp_path, wrong):
    with pytest.raises(UserError, match="must be"):
        write_volume_dataset(tmp_path / "set", **wrong)
