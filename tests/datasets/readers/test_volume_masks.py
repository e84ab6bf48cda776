"""Volumes and their masks: which frames are marked, and masks on grids of their own."""

import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.check.findings import check_dataset
from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_normal_images, find_split
from datasets.folders.scan import check_headers
from datasets.folders.slicing import Slicing
from datasets.folders.splits import Place
from datasets.readers import nifti
from datasets.readers.image import marked_frames, read_image
from tests.medical_files import write_dicom, write_nifti
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
KEY = "TEST_DATA_PATH"
VOLUME = np.random.default_rng(5).integers(-500, 900, (8, 10, 6), dtype=np.int16)
MARKS = np.zeros((8, 10, 6), np.uint8)
MARKS[1:3, 2:7, 1:4] = 1
STRAIGHT = np.eye(4)
OBLIQUE = nibabel.affines.from_matvec(
    np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag([1, 2, 3]), [5, -7, 11]
)


def masked_set(folder, mask, affine=STRAIGHT, image=STRAIGHT):
    """One volume with a mask of the given affine, and two healthy slices."""
    write_nifti(folder / "Ungood/img/case.nii.gz", VOLUME, image)
    write_nifti(folder / "Ungood/label/case.nii.gz", mask, affine)
    write_nifti(folder / "good/img/healthy.nii", VOLUME[..., :2])
    return folder


def masks_of(folder: Path) -> NDArray[np.bool_]:
    split = find_split(folder, key=KEY)
    check_headers(split)
    dataset = AnomalyDataset(split, 16, AUTO)
    frames = [k for k, sample in enumerate(split.samples) if "case" in sample.path.name]
    return np.stack([dataset[k]["mask"].numpy() for k in frames])


def test_a_volume_and_its_mask_become_frames(tmp_path):
    split = find_split(masked_set(tmp_path, MARKS * 2), key=KEY)
    names = [sample.name.removeprefix(f"{tmp_path}/") for sample in split.samples]
    assert names == [f"Ungood/img/case.nii.gz#{k}" for k in range(6)] + [
        "good/img/healthy.nii#0",
        "good/img/healthy.nii#1",
    ]
    assert split.labels == [0, 1, 1, 1, 0, 0, 0, 0]
    assert split.has_masks
    check_headers(split)
    nifti._unpacked.cache_clear()
    items = [AnomalyDataset(split, 8, AUTO)[index] for index in range(8)]
    assert [bool(item["mask"].any()) for item in items] == [label == 1 for label in split.labels]
    assert nifti._unpacked.cache_info().misses == 2, "image and mask are unpacked once each"
    marked = marked_frames(tmp_path / "Ungood/label/case.nii.gz", axis="sagittal")
    assert marked == [False, True, True, *[False] * 5]


def test_a_plane_and_its_mask(tmp_path):
    write_nifti(tmp_path / "Ungood/img/x.nii", VOLUME[..., 0])
    write_nifti(tmp_path / "Ungood/label/x.nii", MARKS[..., 2])
    write_nifti(tmp_path / "good/img/y.nii", VOLUME[..., 1])
    split = find_split(tmp_path, key=KEY)
    assert split.labels == [1, 0]
    assert AnomalyDataset(split, 16, AUTO)[0]["mask"].any()


def test_without_masks_all_frames_of_an_anomalous_file_are_anomalous(tmp_path):
    write_dicom(tmp_path / "Ungood/case.dcm", VOLUME[:3])
    split = find_split(tmp_path, key=KEY, slicing=Slicing("coronal"))
    assert split.labels == [1, 1, 1]
    assert not split.has_masks


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIR"])
def test_a_mask_in_another_orientation_marks_the_same_places(tmp_path, affine, orientation):
    expected = masks_of(masked_set(tmp_path / "a", MARKS, affine, affine))
    assert expected.any()
    turned = nibabel.Nifti1Image(MARKS, affine)
    target = nibabel.orientations.axcodes2ornt(orientation)
    turned = turned.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), target)
    )
    other = masked_set(tmp_path / "b", np.asarray(turned.dataobj), turned.affine, affine)
    np.testing.assert_array_equal(masks_of(other), expected)


def test_a_mask_of_another_resolution_marks_the_same_places(tmp_path):
    marks = np.zeros((4, 5, 3), np.uint8)
    marks[0, 1:4, 0] = 1  # at the rim of the volume, where nothing may be lost
    double = marks.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    coarse = nibabel.affines.from_matvec(2 * np.eye(3), [0.5, 0.5, 0.5])
    expected = masks_of(masked_set(tmp_path / "a", double))
    np.testing.assert_array_equal(masks_of(masked_set(tmp_path / "b", marks, coarse)), expected)


def test_rounding_of_an_affine_is_no_other_grid(tmp_path):
    rounded = nibabel.affines.from_matvec(np.eye(3), [5e-4, 0, 0])
    expected = masks_of(masked_set(tmp_path / "a", MARKS))
    np.testing.assert_array_equal(masks_of(masked_set(tmp_path / "b", MARKS, rounded)), expected)


def test_a_mask_apart_from_its_image_is_an_error_with_both_grids(tmp_path):
    folder = masked_set(tmp_path, MARKS, image=np.diag([-1, -1, 1, 1]))
    message = (
        r"label/case\.nii\.gz: does not cover its image .*img/case\.nii\.gz, which extends up to "
        r"11\.4 mm beyond it: mask 8 × 10 × 6 voxels with affine \[1 0 0 0; .* image 8 × 10 × 6 "
        r"voxels with affine \[-1 0 0 0; "
    )
    with pytest.raises(UserError, match=message):
        find_split(folder, key=KEY)
    report = check_dataset([Place("test", folder, KEY)])
    assert any(
        "does not cover" in each.text for each in report.findings if each.severity == "error"
    )


BAD_MASKS = {
    "fewer slices": (MARKS[..., :5], "does not cover .* 1 mm beyond"),
    "narrower": (MARKS[:7], "does not cover .* 1 mm beyond"),
    "several volumes": (np.stack([MARKS, MARKS], axis=3), "the mask has 2 volumes"),
}


@pytest.mark.parametrize(("mask", "reason"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_a_mask_that_does_not_fit_is_an_error(tmp_path, mask, reason):
    with pytest.raises(UserError, match=rf"label/case\.nii\.gz: .*{reason}"):
        find_split(masked_set(tmp_path, mask), key=KEY)


def test_an_unreadable_mask_is_named_and_an_empty_one_warned_of(tmp_path, caplog):
    folder = masked_set(tmp_path, np.zeros_like(MARKS))
    assert find_split(folder, key=KEY).labels == [0] * 8
    assert "label/case.nii.gz: is empty although" in caplog.text
    (folder / "Ungood/label/case.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"label/case\.nii\.gz: cannot be read"):
        find_split(folder, key=KEY)


@pytest.mark.parametrize(("name", "package"), [("x.dcm", "pydicom"), ("x.nii.gz", "nibabel")])
def test_without_the_extra_the_command_is_named(tmp_path, monkeypatch, name, package):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / name).write_bytes(b"any")
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'{package}.*pip install -e "\.\[medical\]"'
    with pytest.raises(UserError, match=message):
        read_image(tmp_path / "good" / name, AUTO)
    with pytest.raises(UserError, match=message):
        find_normal_images(tmp_path, key="TRAIN_DATA_PATH")
