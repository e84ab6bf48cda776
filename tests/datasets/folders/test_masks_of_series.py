"""Masks of whole DICOM series are laid by their positions, or refused."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.sr.codedict import codes

from datasets.folders.find import inspect_split
from tests.medical_files import write_dicom, write_nifti
from tests.series_files import write_series

STACK = np.random.default_rng(0).integers(0, 999, (4, 8, 6)).astype(np.uint16)
KEY = "TEST_DATA_PATH"


def write_segments(path: Path, files: list[Path], marks: NDArray[np.uint8]) -> None:
    """(N, rows, columns, S) as the segments of a DICOM SEG, whose empty frames are left out."""
    sources = [pydicom.dcmread(file) for file in files]
    for source in sources:
        source.SliceThickness = 2
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="reader", version="1", family=codes.cid7162.ArtificialIntelligence
    )
    segments = [
        highdicom.seg.SegmentDescription(
            number + 1, f"lesion {number}", codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Lesion, "AUTOMATIC", algorithm,
        )
        for number in range(marks.shape[3])
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    highdicom.seg.Segmentation(
        sources,
        marks,
        "BINARY",
        segments,
        *(highdicom.UID(), 9, highdicom.UID(), 1, "reader", "reader", "1", "none"),
    ).save_as(path)


@pytest.mark.parametrize("places", [[(2, 0)], [(1, 0), (1, 1), (2, 1)], [(0, 0), (3, 0)]])
def test_segments_mark_the_slices_that_they_lie_on(tmp_path, places):
    files = write_series(tmp_path / "Ungood/img/p1", STACK)
    marks = np.zeros((*STACK.shape, 2), np.uint8)
    for index, segment in places:
        marks[index, 1 + 2 * segment, 1:4, segment] = 1
    write_segments(tmp_path / "Ungood/label/p1.dcm", files, marks)
    split = inspect_split(tmp_path, key=KEY)
    assert split.problems == ()
    expected = marks.any(axis=(1, 2, 3)).astype(int)
    assert split.labels == expected.tolist()
    for sample in split.samples:
        found = sample.read_mask().sum() if sample.mask else 0
        assert found == marks[sample.frame].any(axis=2).sum()


def test_a_mask_in_no_order_is_told(tmp_path):
    write_series(tmp_path / "Ungood/img/p1", STACK)
    for part in ("a", "b"):
        write_series(tmp_path / "Ungood/label/p1" / part, STACK, uid="1.2.3")
    problem, *_ = inspect_split(tmp_path, key=KEY).problems
    assert problem.startswith(f"{tmp_path}/Ungood/label/p1/a: same position: 2 slices are at ")


@pytest.mark.parametrize("name", ["p1.png", "p1.tif", "p1.dcm"])
def test_masks_that_do_not_say_where_they_lie_are_refused(tmp_path, name):
    write_series(tmp_path / "Ungood/img/p1", STACK)
    path = tmp_path / "Ungood/label" / name
    path.parent.mkdir()
    if name.endswith("tif"):
        tifffile.imwrite(path, (STACK > 500).astype(np.uint8), photometric="minisblack")
    elif name.endswith("dcm"):
        write_dicom(path, STACK)
    else:
        Image.fromarray(np.ones((8, 6), np.uint8)).save(path)
    (problem,) = inspect_split(tmp_path, key=KEY).problems
    assert problem.startswith(f"{path}: has no position in the series {tmp_path}")


def test_a_segmentation_of_a_nifti_image_is_refused(tmp_path):
    files = write_series(tmp_path / "source", STACK)
    write_nifti(tmp_path / "Ungood/img/p1.nii.gz", STACK.transpose(2, 1, 0).astype(np.int16))
    marks = np.ones((*STACK.shape, 1), np.uint8)
    write_segments(tmp_path / "Ungood/label/p1.dcm", files, marks)
    (problem,) = inspect_split(tmp_path, key=KEY).problems
    assert problem.startswith(f"{tmp_path}/Ungood/label/p1.dcm: is DICOM but its image ")
