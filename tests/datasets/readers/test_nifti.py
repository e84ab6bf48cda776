"""NIfTI as other programs write it: damaged, on other grids, with NaN, of two dimensions."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.check.findings import check_dataset
from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_split
from datasets.folders.scan import check_headers
from datasets.folders.splits import Place
from datasets.folders.volumes import Slicing
from datasets.readers import nifti
from datasets.readers.base import SliceAxis
from datasets.readers.image import count_frames, read_image, read_mask
from tests.medical_files import write_nifti
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO, WIDE = IntensityWindow(), IntensityWindow.parse("-600,1000")
RNG = np.random.default_rng(5)
VOLUME = RNG.integers(-500, 900, (8, 10, 6), dtype=np.int16)
MARKS = np.zeros((8, 10, 6), np.uint8)
MARKS[1:3, 2:7, 1:4] = 1


def wrong_sum(content: bytes) -> bytes:
    return content[:-6] + bytes([content[-6] ^ 255]) + content[-5:]


@pytest.mark.parametrize("kept", [2**28, 10])
@pytest.mark.parametrize(
    "damage",
    [wrong_sum, lambda content: content[:-8], lambda content: content[:-3]],
    ids=["wrong sum", "no trailer", "half a trailer"],
)
def test_a_damaged_stream_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes], kept: int
) -> None:
    monkeypatch.setattr(nifti, "_KEPT_BYTES", kept)
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        with pytest.raises(UserError, match=r"x\.nii\.gz: .*compressed data are damaged or cut"):
            read_image(path, AUTO, 0)


def test_a_stream_of_several_members_is_whole(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "x.nii", VOLUME)
    content = path.read_bytes()
    parts = tmp_path / "x.nii.gz"
    parts.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    np.testing.assert_array_equal(read_image(parts, AUTO, 2), read_image(path, AUTO, 2))


def masked_set(
    tmp_path: Path, mask: NDArray[Any], affine: NDArray[Any], image: NDArray[Any]
) -> Path:
    write_nifti(tmp_path / "Ungood/img/case.nii.gz", VOLUME, image)
    write_nifti(tmp_path / "Ungood/label/case.nii.gz", mask, affine)
    write_nifti(tmp_path / "good/img/healthy.nii", VOLUME[..., :2])
    return tmp_path


def masks_of(folder: Path) -> NDArray[np.bool_]:
    split = find_split(folder, key="TEST_DATA_PATH")
    check_headers(split)
    dataset = AnomalyDataset(split, 16, AUTO)
    frames = [k for k, sample in enumerate(split.samples) if "case" in sample.path.name]
    return np.stack([dataset[k]["mask"].numpy() for k in frames])


OBLIQUE = nibabel.affines.from_matvec(
    np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag([1, 2, 3]), [5, -7, 11]
)


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("orientation", ["LPS", "SAR", "PIR"])
def test_a_mask_in_another_orientation_marks_the_same_places(
    tmp_path: Path, affine: NDArray[Any], orientation: str
) -> None:
    expected = masks_of(masked_set(tmp_path / "a", MARKS, affine, affine))
    assert expected.any()
    turned = nibabel.Nifti1Image(MARKS, affine)
    target = nibabel.orientations.axcodes2ornt(orientation)
    turned = turned.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), target)
    )
    other = masked_set(tmp_path / "b", np.asarray(turned.dataobj), turned.affine, affine)
    np.testing.assert_array_equal(masks_of(other), expected)


def test_a_mask_of_another_resolution_marks_the_same_places(tmp_path: Path) -> None:
    marks = np.zeros((4, 5, 3), np.uint8)
    marks[0, 1:4, 0] = 1  # at the rim of the volume, where nothing may be lost
    double = marks.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    coarse = nibabel.affines.from_matvec(2 * np.eye(3), [0.5, 0.5, 0.5])
    expected = masks_of(masked_set(tmp_path / "a", double, np.eye(4), np.eye(4)))
    result = masks_of(masked_set(tmp_path / "b", marks, coarse, np.eye(4)))
    np.testing.assert_array_equal(result, expected)


def test_rounding_of_an_affine_is_no_other_grid(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 3] = 5e-4
    expected = masks_of(masked_set(tmp_path / "a", MARKS, np.eye(4), np.eye(4)))
    np.testing.assert_array_equal(
        masks_of(masked_set(tmp_path / "b", MARKS, affine, np.eye(4))), expected
    )


def test_a_mask_apart_from_its_image_is_an_error_with_both_grids(tmp_path: Path) -> None:
    folder = masked_set(tmp_path, MARKS, np.eye(4), np.diag([-1, -1, 1, 1]))
    message = (
        r"label/case\.nii\.gz: does not cover its image .*img/case\.nii\.gz, which reaches up to "
        r"11\.4 mm beyond it: mask 8 × 10 × 6 voxels with affine \[1 0 0 0; .* image 8 × 10 × 6 "
        r"voxels with affine \[-1 0 0 0; "
    )
    with pytest.raises(UserError, match=message):
        find_split(folder, key="TEST_DATA_PATH")
    report = check_dataset([Place("test", folder, "TEST_DATA_PATH")])
    assert any(
        "does not cover" in each.text for each in report.findings if each.severity == "error"
    )


def test_what_is_no_number_is_background(tmp_path: Path) -> None:
    volume = VOLUME.astype(np.float32)
    inside = volume[2:, 2:].copy()
    volume[0], volume[1], volume[:, 0], volume[:, 1] = np.nan, np.inf, -np.inf, np.nan
    path = write_nifti(tmp_path / "x.nii.gz", volume)
    low, high = np.percentile(inside, (0.5, 99.5))
    expected = np.zeros((8, 10))
    expected[2:, 2:] = np.rint(np.clip((inside[..., 3] - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(read_image(path, AUTO, 3), expected[::-1, ::-1].T)
    black = read_image(path, IntensityWindow.parse("-2000,2000"), 3)[::-1, ::-1].T
    assert (black[:2] == 0).all()
    assert (black[2:, 2:] > 0).all()
    marked = read_mask(path, 3)[::-1, ::-1].T
    assert not marked[:2].any()
    assert marked[2:, 2:].any()


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("shape", [(8, 10), (8, 10, 1)])
def test_a_file_of_one_plane_is_a_picture(
    tmp_path: Path, shape: tuple[int, ...], axis: SliceAxis
) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME[..., 0].reshape(shape))
    whole = write_nifti(tmp_path / "y.nii", VOLUME[..., :1].repeat(2, axis=2))
    assert count_frames(path, axis=axis) == 1
    np.testing.assert_array_equal(read_image(path, WIDE, axis=axis), read_image(whole, WIDE, 1))


def test_a_plane_and_its_mask(tmp_path: Path) -> None:
    write_nifti(tmp_path / "Ungood/img/x.nii", VOLUME[..., 0])
    write_nifti(tmp_path / "Ungood/label/x.nii", MARKS[..., 2])
    write_nifti(tmp_path / "good/img/y.nii", VOLUME[..., 1])
    split = find_split(tmp_path, key="TEST_DATA_PATH")
    assert split.labels == [1, 0]
    assert AnomalyDataset(split, 16, AUTO)[0]["mask"].any()


def test_colours(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 256, (8, 10, 6, 3), dtype=np.uint8)
    voxels = rgb.view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))[..., 0]
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "x.nii.gz")
    expected = rgb[::-1, ::-1, 4].swapaxes(0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii.gz", AUTO, 4), expected)


def test_an_image_and_its_mask_are_unpacked_once_each(tmp_path: Path) -> None:
    split = find_split(masked_set(tmp_path, MARKS, np.eye(4), np.eye(4)), key="TEST_DATA_PATH")
    nifti._unpacked.cache_clear()
    dataset = AnomalyDataset(split, 16, AUTO)
    for index in range(6):
        dataset[index]
    assert nifti._unpacked.cache_info().misses == 2


def test_the_forms_of_a_headers_affine_are_resolved_as_nibabel_does(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME, np.eye(4))
    image.set_qform(np.diag([-1, -1, 1, 1]), 1)
    image.set_sform(np.diag([1, -1, 1, 1]), 2)
    nibabel.save(image, tmp_path / "x.nii")
    expected = write_nifti(tmp_path / "y.nii", VOLUME, np.diag([1, -1, 1, 1]))
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.nii", AUTO, 2), read_image(expected, AUTO, 2)
    )


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_volume_of_several_is_read_and_the_others_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    volumes = np.stack([VOLUME, 3 * VOLUME[::-1], VOLUME[:, ::-1]], axis=3)
    for k in range(2):
        write_nifti(tmp_path / f"Ungood/img/{k}{suffix}", volumes)
        write_nifti(tmp_path / f"Ungood/label/{k}.nii.gz", MARKS)
    write_nifti(tmp_path / "good/x.nii", VOLUME)
    split = find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing(volume=1))
    assert [record.message for record in caplog.records] == [
        f"2 files hold several volumes, such as {tmp_path}/Ungood/img/0{suffix} (3): VOLUME_INDEX "
        "= 1 is read, the others are left out"
    ]
    check_headers(split)
    alone = write_nifti(tmp_path / "alone.nii", volumes[..., 1])
    for index in range(6):
        sample = split.samples[index]
        np.testing.assert_array_equal(sample.read(AUTO), read_image(alone, AUTO, index))
    assert AnomalyDataset(split, 16, AUTO)[2]["mask"].any()
    with pytest.raises(UserError, match=r"has no volume 3, it holds 3; lower VOLUME_INDEX"):
        check_headers(find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing(volume=3)))


def test_a_mask_of_several_volumes_is_an_error(tmp_path: Path) -> None:
    several = np.stack([MARKS, MARKS], axis=3)
    with pytest.raises(UserError, match=r"label/case\.nii\.gz: .*a mask of 2 volumes"):
        find_split(masked_set(tmp_path, several, np.eye(4), np.eye(4)), key="TEST_DATA_PATH")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("cut", ["axial", "coronal", "sagittal"])
def test_a_single_plane_is_a_picture_along_any_axis(tmp_path: Path, axis: int, cut: str) -> None:
    shape = [7, 9, 11]
    shape[axis] = 1
    path = write_nifti(tmp_path / "plane.nii", RNG.integers(0, 900, shape, dtype=np.int16))
    assert count_frames(path, axis=cut) == 1
    assert sorted(read_image(path, AUTO, axis=cut).shape) == sorted(set(shape) - {1})
