"""NIfTI volumes as programs write them: slices by nibabel, one line for what is broken."""

import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_split
from datasets.folders.scan import check_headers
from datasets.folders.slicing import Slicing
from datasets.readers import nifti
from datasets.readers.base import SliceAxis
from datasets.readers.image import count_frames, read_image, read_mask, read_size
from tests.medical_files import stretched, windowed, write_nifti
from tests.processes import python
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO, WIDE = IntensityWindow(), IntensityWindow.parse("-600,1000")
RNG = np.random.default_rng(5)
VOLUME = RNG.integers(-500, 900, (8, 10, 6), dtype=np.int16)
SMALL = RNG.integers(-1000, 2000, (4, 5, 6), dtype=np.int16)


def slow_slices(image: Any, axis: int) -> Iterator[NDArray[Any]]:
    """Slices by nibabel's own reorientation of the whole volume."""
    canonical = np.asanyarray(nibabel.as_closest_canonical(image).dataobj)
    for k in range(canonical.shape[axis]):
        plane = np.take(canonical, k, axis)
        # Columns run along the first of the two remaining axes, rows along the second, both
        # backwards: up is the end of the second.
        height, width = plane.shape[1], plane.shape[0]
        rows = [[plane[width - 1 - x, height - 1 - y] for x in range(width)] for y in range(height)]
        yield np.array(rows)


ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("axis", "number"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_slices_of_any_orientation_are_canonical(tmp_path, suffix, axis, number):
    for order, signs in ORIENTATIONS:
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3) * signs)[list(order)] * [1, 2, 3]
        path = write_nifti(tmp_path / f"{order}{signs}{suffix}", SMALL, affine, slope=0.5)
        expected = list(slow_slices(nibabel.load(path), number))
        assert count_frames(path, axis=axis) == len(expected)
        for frame, plane in enumerate(expected):
            pixels = read_image(path, IntensityWindow.parse("-500,900"), frame, axis=axis)
            np.testing.assert_array_equal(pixels, windowed(plane, -500, 900))
            assert read_size(path, frame, axis=axis) == plane.shape


def test_a_patient_is_shown_as_radiologists_look_at_one(tmp_path):
    # RAS: voxel (0, 0, 0) lies to the left, at the back, at the bottom.
    volume = np.zeros((4, 5, 6), np.uint8)
    volume[3, 4, 5] = 255  # right, front, top
    path = write_nifti(tmp_path / "x.nii", volume)
    assert read_image(path, AUTO, 5, axis="axial")[0, 0] == 255  # front up, right on the left
    assert read_image(path, AUTO, 4, axis="coronal")[0, 0] == 255  # top up, right on the left
    assert read_image(path, AUTO, 3, axis="sagittal")[0, 0] == 255  # top up, front on the left
    assert read_size(path, 0, axis="axial") == (5, 4)
    assert read_size(path, 0, axis="coronal") == (6, 4)
    assert read_size(path, 0, axis="sagittal") == (6, 5)


def test_the_forms_of_a_headers_affine_are_resolved_as_nibabel_does(tmp_path):
    image = nibabel.Nifti1Image(VOLUME, np.eye(4))
    image.set_qform(np.diag([-1, -1, 1, 1]), 1)
    image.set_sform(np.diag([1, -1, 1, 1]), 2)
    nibabel.save(image, tmp_path / "x.nii")
    expected = write_nifti(tmp_path / "y.nii", VOLUME, np.diag([1, -1, 1, 1]))
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.nii", AUTO, 2), read_image(expected, AUTO, 2)
    )


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_percentiles_are_those_of_the_volume(tmp_path, suffix):
    path = write_nifti(tmp_path / f"x{suffix}", VOLUME, slope=0.25)
    expected = stretched(VOLUME[::-1, ::-1, 2].T / 4, of=VOLUME / 4)
    np.testing.assert_array_equal(read_image(path, AUTO, 2), expected)


def test_percentiles_of_a_large_volume_are_estimated(tmp_path):
    volume = RNG.normal(0, 300, (100, 110, 90)).astype(np.float32)
    path = write_nifti(tmp_path / "x.nii", volume)
    found = nifti._percentiles(path, 0, 0, (0.5, 99.5))
    np.testing.assert_allclose(found, np.percentile(volume, (0.5, 99.5)), atol=15)


QUIET = """
import logging, sys
from pathlib import Path
import datasets.readers.image as image
from utils.intensity import IntensityWindow
image.read_image(Path(sys.argv[1]), IntensityWindow(), 0)
logging.getLogger("nibabel").warning("said by others")
"""


def test_what_nibabel_says_of_our_files_is_not_printed_and_of_others_is(tmp_path):
    path = write_nifti(tmp_path / "x.nii", VOLUME)
    with path.open("r+b") as file:
        file.seek(80)
        file.write(np.float32(-1).tobytes())  # pixdim[1]
    run = python("-c", QUIET, str(path))
    assert (run.returncode, run.stderr) == (0, "said by others\n")


def test_8_bit_volumes_and_colours_stay(tmp_path):
    rgb = RNG.integers(0, 256, (8, 10, 6, 3), dtype=np.uint8)
    path = write_nifti(tmp_path / "grey.nii.gz", rgb[..., 0])
    np.testing.assert_array_equal(read_image(path, AUTO, 0), rgb[::-1, ::-1, 0, 0].T)
    voxels = rgb.view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))[..., 0]
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "x.nii.gz")
    expected = rgb[::-1, ::-1, 4].swapaxes(0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii.gz", AUTO, 4), expected)


def test_what_is_no_number_is_background(tmp_path):
    volume = VOLUME.astype(np.float32)
    inside = volume[2:, 2:].copy()
    volume[0], volume[1], volume[:, 0], volume[:, 1] = np.nan, np.inf, -np.inf, np.nan
    path = write_nifti(tmp_path / "x.nii.gz", volume)
    expected = np.zeros((8, 10))
    expected[2:, 2:] = stretched(inside[..., 3], of=inside)
    np.testing.assert_array_equal(read_image(path, AUTO, 3), expected[::-1, ::-1].T)
    black = read_image(path, IntensityWindow.parse("-2000,2000"), 3)[::-1, ::-1].T
    assert (black[:2] == 0).all()
    assert (black[2:, 2:] > 0).all()
    marked = read_mask(path, 3)[::-1, ::-1].T
    assert not marked[:2].any()
    assert marked[2:, 2:].any()


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("shape", [(8, 10), (8, 10, 1), (8, 1, 6), (1, 10, 6)])
def test_a_file_of_one_plane_is_a_picture(tmp_path, shape, axis):
    flat = shape.index(1) if 1 in shape else 2
    plane = VOLUME.take([0], flat)
    path = write_nifti(tmp_path / "x.nii.gz", plane.reshape(shape))
    whole = write_nifti(tmp_path / "y.nii", plane.repeat(2, axis=flat))
    assert count_frames(path, axis=axis) == 1
    across: SliceAxis = ("sagittal", "coronal", "axial")[flat]
    expected = read_image(whole, WIDE, 1, axis=across)
    np.testing.assert_array_equal(read_image(path, WIDE, axis=axis), expected)


def test_dimensions_of_one_are_no_dimensions(tmp_path):
    path = write_nifti(tmp_path / "x.nii", VOLUME[..., None])
    assert count_frames(path) == 6
    assert read_image(path, AUTO, 1).shape == (10, 8)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_one_volume_of_several_is_read_and_the_others_told_of_once(tmp_path, caplog, suffix):
    volumes = np.stack([VOLUME, 3 * VOLUME[::-1], VOLUME[:, ::-1]], axis=3)
    for k in range(2):
        write_nifti(tmp_path / f"Ungood/img/{k}{suffix}", volumes)
        write_nifti(tmp_path / f"Ungood/label/{k}.nii.gz", (VOLUME > 800).astype(np.uint8))
    write_nifti(tmp_path / "good/x.nii", VOLUME)
    split = find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing(volume=1))
    assert [record.message for record in caplog.records] == [
        f"2 files have several volumes, such as {tmp_path}/Ungood/img/0{suffix} (3); reading only "
        "volume 1 (VOLUME_INDEX)"
    ]
    check_headers(split)
    alone = write_nifti(tmp_path / "alone.nii", volumes[..., 1])
    for index, sample in enumerate(split.samples[:6]):
        pixels = read_image(sample.path, AUTO, sample.frame, volume=sample.volume)
        np.testing.assert_array_equal(pixels, read_image(alone, AUTO, index))
    assert AnomalyDataset(split, 16, AUTO)[2]["mask"].any()
    with pytest.raises(UserError, match=r"has no volume 3, only 3 in all; lower VOLUME_INDEX"):
        check_headers(find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing(volume=3)))


def test_a_volume_too_large_for_memory_is_unpacked_once_too(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    kept = [read_image(path, AUTO, frame) for frame in range(3)]
    monkeypatch.setattr(nifti, "_KEPT_BYTES", 10)
    nifti._unpacked.cache_clear()
    for frame in range(3):
        np.testing.assert_array_equal(read_image(path, AUTO, frame), kept[frame])
    assert nifti._unpacked.cache_info().misses == 1
    whole = nifti._unpacked(path, path.stat().st_mtime_ns)
    assert isinstance(whole, np.memmap), "on the disk, not in memory"


def test_a_replaced_volume_is_read_anew(tmp_path):
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    first = read_image(path, WIDE, 0)
    write_nifti(path, VOLUME[::-1].copy())
    assert not np.array_equal(read_image(path, WIDE, 0), first)


def test_a_stream_of_several_members_is_whole(tmp_path):
    path = write_nifti(tmp_path / "x.nii", VOLUME)
    content = path.read_bytes()
    parts = tmp_path / "x.nii.gz"
    parts.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    np.testing.assert_array_equal(read_image(parts, AUTO, 2), read_image(path, AUTO, 2))


def wrong_sum(content: bytes) -> bytes:
    return content[:-6] + bytes([content[-6] ^ 255]) + content[-5:]


@pytest.mark.parametrize("kept", [2**28, 10])
@pytest.mark.parametrize(
    "damage",
    [wrong_sum, lambda content: content[:-8], lambda content: content[:-3]],
    ids=["wrong sum", "no trailer", "half a trailer"],
)
def test_a_damaged_stream_is_an_error(tmp_path, monkeypatch, damage, kept):
    monkeypatch.setattr(nifti, "_KEPT_BYTES", kept)
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        with pytest.raises(UserError, match=r"x\.nii\.gz: .*compressed data are damaged or cut"):
            read_image(path, AUTO, 0)


def holding(volume: NDArray[Any]) -> Callable[[Path], Any]:
    return lambda path: write_nifti(path, volume)


def cut(path: Path) -> None:
    write_nifti(path, VOLUME)
    path.write_bytes(path.read_bytes()[:-100])


def without_orientation(path: Path) -> None:
    write_nifti(path, VOLUME)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        content = bytearray(file.read())
    content[280:296] = bytes(16)  # srow_x: where the first voxel axis leads to
    with opener(path, "wb") as file:
        file.write(content)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "5-D": (holding(np.zeros((4, 5, 6, 1, 2), np.int16)), "has 5 dim"),
    "1-D": (holding(np.zeros(4, np.int16)), "has 1 dimensions"),
    "complex": (holding(np.zeros((2, 2, 2), np.complex64)), "complex64"),
    "NaN": (holding(np.full((2, 2, 2), np.nan, np.float32)), "NaN"),
    "text": (lambda path: path.write_text("no image"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "cut": (cut, "cannot be read"),
    "no orientation": (without_orientation, "orientation"),
    "missing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("write", "reason"), BROKEN.values(), ids=BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_broken_nifti(tmp_path, write, reason, suffix):
    path = tmp_path / f"x{suffix}"
    write(path)
    with pytest.raises(UserError, match=reason) as caught:
        read_image(path, AUTO, 0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
