"""One volume, however it is stored: the same slices; and what a series alone may hold."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from datasets.readers.base import SliceAxis
from datasets.readers.image import Source, open_image, read_image, read_mask, read_size
from datasets.volumes.grid import grid_of, laid_on_grid
from datasets.volumes.map_files import write_segmentation
from datasets.volumes.series import Series, group_series
from tests.medical_files import write_nifti
from tests.series_files import write_series
from utils.errors import UserError
from utils.intensity import IntensityWindow

AXES: tuple[SliceAxis, ...] = ("axial", "coronal", "sagittal")
# (X, Y, Z) in RAS+; no two slices alike, none like itself turned.
VOLUME = np.random.default_rng(0).integers(0, 3000, (9, 7, 5)).astype(np.uint16)


def as_stack(volume: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """(X, Y, Z) in RAS+ as axial DICOM slices (N, rows, columns)."""
    return np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0))


def series_of(folder: Path) -> Series:
    (series,) = group_series(folder.rglob("*.dcm")).series
    return series


def slices(source: Source, axis: SliceAxis, window: str = "auto") -> list[NDArray[np.uint8]]:
    with open_image(source, axis) as file:
        count = file.num_frames
    found = [
        read_image(source, IntensityWindow.parse(window), frame, axis=axis)
        for frame in range(count)
    ]
    assert {read_size(source, 0, axis=axis)} == {each.shape for each in found}
    return found


def stored(folder: Path) -> dict[str, Source]:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (8, -6, 10), degrees=True).as_matrix()
    flip = np.diag([-1.0, -1, 1, 1])
    swap = np.eye(4)[[2, 0, 1, 3]]
    write_series(folder / "dicom", as_stack(VOLUME))
    return {
        "RAS": write_nifti(folder / "ras.nii.gz", VOLUME),
        "LPS": write_nifti(folder / "lps.nii", VOLUME[::-1, ::-1], flip),
        "transposed": write_nifti(folder / "zxy.nii", VOLUME.transpose(2, 0, 1), swap.T),
        "oblique": write_nifti(folder / "oblique.nii", VOLUME, turn),
        "DICOM": series_of(folder / "dicom"),
    }


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("window", ["auto", "percentiles 5,80", "100,900"])
def test_one_volume_has_one_set_of_slices_however_it_is_stored(tmp_path, axis, window):
    found = {name: slices(source, axis, window) for name, source in stored(tmp_path).items()}
    assert len(found["RAS"]) == VOLUME.shape[2 - AXES.index(axis)]
    for name, each in found.items():
        assert np.array_equal(each, found["RAS"]), name


def test_what_is_written_to_a_slice_lands_in_its_voxels(tmp_path):
    for axis in AXES:
        for name, source in stored(tmp_path / axis).items():
            with open_image(source, axis) as file:
                array = np.zeros(file.shape, np.uint8)
                for frame in range(file.num_frames):
                    file.plane_of(array, frame)[:] = file.pixels(frame, IntensityWindow())
                for frame in range(file.num_frames):
                    assert np.array_equal(
                        file.plane_of(array, frame), file.pixels(frame, IntensityWindow())
                    ), name


def test_a_slice_of_its_own_reads_one_file(tmp_path):
    write_series(tmp_path, as_stack(VOLUME), WindowCenter=1000, WindowWidth=2000)
    series = series_of(tmp_path)
    for plane in series.planes[1:]:
        plane.path.unlink()
    slice_zero = read_image(series, IntensityWindow(), 0)
    assert slice_zero.shape == VOLUME.shape[1::-1]
    with pytest.raises(UserError, match=r"no such file"):
        read_image(series, IntensityWindow(), 0, axis="coronal")


def test_slices_with_windows_of_their_own_share_that_of_the_volume(tmp_path):
    paths = write_series(tmp_path, as_stack(VOLUME))
    series = series_of(tmp_path)
    plain = slices(series, "axial")
    for number, path in enumerate(paths):
        header = pydicom.dcmread(path)
        header.WindowCenter, header.WindowWidth = 100 * (number + 1), 50
        header.save_as(path)
    assert np.array_equal(slices(series_of(tmp_path), "axial"), plain)


def test_low_is_bright_and_padding_is_black_along_every_axis(tmp_path):
    volume = VOLUME.copy()
    volume[2, 3, 1] = 5000
    for name, kind in (("plain", "MONOCHROME2"), ("inverted", "MONOCHROME1")):
        tags = {"PixelPaddingValue": 5000, "WindowCenter": 1500, "WindowWidth": 3000}
        write_series(tmp_path / name, as_stack(volume), PhotometricInterpretation=kind, **tags)
    for axis in AXES:
        plain = np.stack(slices(series_of(tmp_path / "plain"), axis)).astype(int)
        inverted = np.stack(slices(series_of(tmp_path / "inverted"), axis)).astype(int)
        assert (plain + inverted == 255).sum() == plain.size - 1
        assert (plain + inverted == 0).sum() == 1


def test_a_mask_is_a_nifti_on_the_grid_or_a_series_of_the_same_slices(tmp_path):
    marked = np.zeros_like(VOLUME)
    marked[2, 5, 3] = 1
    image = stored(tmp_path)["DICOM"]
    write_series(tmp_path / "mask", as_stack(marked))
    mask = series_of(tmp_path / "mask")
    # The voxel (0, 0) of DICOM lies at x = -10, y = -20 LPS; spacing is 1.25 and 1.5 mm.
    affine = np.diag([1.25, 1.5, 2, 1])
    affine[:3, 3] = 10 - 8 * 1.25, 20 - 6 * 1.5, 0
    nifti = write_nifti(tmp_path / "mask.nii.gz", marked, affine)
    for axis in AXES:
        with open_image(image, axis) as file:
            count = file.num_frames
        for each in (mask, nifti):
            planes = [read_mask(each, frame, axis=axis, image=image) for frame in range(count)]
            assert np.sum(planes) == 1
            with open_image(write_nifti(tmp_path / "same.nii", marked), axis) as file:
                expected = [file.read_mask(frame) > 0 for frame in range(count)]
            assert np.array_equal(planes, expected)
    write_series(tmp_path / "elsewhere", as_stack(marked), heights=[1, 3, 5, 7, 9])
    with pytest.raises(UserError, match="are not at the same positions as those of its image"):
        read_mask(series_of(tmp_path / "elsewhere"), 0, image=image)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"heights": [0, 2, 4, 8, 10]}, 1.0),
        ({"heights": [0, 2, 4.5, 6.3, 8]}, 1.0),
        ({"lean": (0, 0.75)}, 1.0),
        ({"lean": (0.3, -0.4)}, 0.6),
    ],
    ids=["missing", "uneven", "leaning by whole pixels", "leaning"],
)
def test_a_nifti_mask_marks_slices_on_no_grid_where_they_lie(tmp_path, options, least):
    stack = np.zeros((5, 9, 8), np.uint16)
    stack[1:4, 3:7, 2:6] = 1
    write_series(tmp_path / "scan", stack, **options)
    series = series_of(tmp_path / "scan")
    grid = grid_of(series)
    marked = laid_on_grid(stack.astype(np.float32), series) >= 0.5
    mask = write_nifti(tmp_path / "mask.nii", marked.astype(np.uint8), grid.affine)
    assert read_size(mask, 0, mask_of=series) == (9, 8)
    planes = np.stack([read_mask(mask, frame, image=series) for frame in range(5)])
    overlap = (planes & (stack > 0)).sum() / (planes | (stack > 0)).sum()
    assert overlap >= least


def test_a_nifti_mask_of_half_a_series_on_no_grid_is_refused(tmp_path):
    write_series(tmp_path, as_stack(VOLUME), heights=[0, 2, 4, 8, 10])
    mask = write_nifti(tmp_path / "mask.nii", np.zeros((9, 7, 6), np.uint8))
    with pytest.raises(UserError, match=r"mask\.nii: does not cover slice \d+ of its image"):
        read_mask(mask, 0, image=series_of(tmp_path))


def test_a_segmentation_may_leave_out_what_it_does_not_mark(tmp_path):
    stack = as_stack(VOLUME)
    image = group_series(write_series(tmp_path / "scan", stack)).series[0]
    marks = np.zeros(stack.shape, bool)
    marks[2:4, 1:4, 2:5] = True
    write_segmentation(tmp_path / "seg.dcm", marks, image, "as a reader drew it")
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 2
    (mask,) = group_series([tmp_path / "seg.dcm"], masks=True).series
    for axis in AXES:
        with open_image(image, axis) as file:
            shape, frames = file.size(0), range(file.num_frames)
        found = [read_mask(mask, frame, axis=axis, image=image) for frame in frames]
        assert found[0].shape == shape
        assert np.sum(found) == marks.sum()


def test_tables_of_slices_are_not_theirs_alone(tmp_path):
    flat = np.full((3, 8, 6), 500, np.uint16)
    paths = write_series(tmp_path, flat)
    for number, path in enumerate(paths):
        file, table = pydicom.dcmread(path), pydicom.Dataset()
        table.LUTDescriptor, table.LUTData = [1000, 0, 16], bytes([0, number * 40] * 1000)
        file.VOILUTSequence = [table]
        file.save_as(path)
    (series,) = group_series(paths).series
    shown = [read_image(series, IntensityWindow(), frame).mean() for frame in range(3)]
    assert len(set(shown)) == 1


def test_a_damaged_slice_is_named_and_the_others_are_read(tmp_path):
    paths = write_series(tmp_path, as_stack(VOLUME))
    paths[2].write_bytes(paths[2].read_bytes()[:-40])
    series = series_of(tmp_path)
    assert read_image(series, IntensityWindow(), 1).any()
    with pytest.raises(UserError, match=paths[2].name):
        read_image(series, IntensityWindow(), 2)


def test_a_slice_of_padding_alone_changes_nothing_about_the_others(tmp_path):
    stack = np.random.default_rng(1).integers(500, 900, (6, 20, 20)).astype(np.uint16)
    write_series(tmp_path / "whole", stack, PixelPaddingValue=0)
    stack[5] = 0
    write_series(tmp_path / "padded", stack, PixelPaddingValue=0)
    whole, padded = (slices(series_of(tmp_path / each), "axial") for each in ("whole", "padded"))
    assert not padded[5].any()
    for slice_of_whole, slice_of_padded in zip(whole[:5], padded[:5], strict=True):
        np.testing.assert_allclose(slice_of_padded, slice_of_whole.astype(float), atol=3)
