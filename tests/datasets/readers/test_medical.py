"""DICOM and NIfTI: intensities by hand, orientation by nibabel, and one line for what is broken."""

import gzip
import itertools
import shutil
import sys

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels import apply_color_lut
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import JPEGLSLossless, RLELossless, SegmentationStorage

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_normal_images, find_split
from datasets.folders.scan import check_headers
from datasets.folders.volumes import Slicing
from datasets.readers import nifti
from datasets.readers.image import count_frames, marked_frames, read_image, read_mask, read_size
from tests.medical_files import dicom_dataset, sequence_item, write_dicom, write_nifti
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
RNG = np.random.default_rng(1)
CT = RNG.integers(0, 3000, (5, 8), dtype=np.int16)
GREY = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
STACK = RNG.integers(0, 3000, (3, 5, 8), dtype=np.int16)
VOLUME = RNG.integers(-1000, 2000, (4, 5, 6), dtype=np.int16)


def windowed(values, low, high):
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def stretched(values, of=None):
    return windowed(values, *np.percentile(values if of is None else of, (0.5, 99.5)))


def slow_linear_window(value, centre, width):
    """DICOM PS3.3 C.11.2.1.2.1, word for word, with outputs from 0 to 255."""
    if value <= centre - 0.5 - (width - 1) / 2:
        return 0
    if value > centre - 0.5 + (width - 1) / 2:
        return 255
    return ((value - (centre - 0.5)) / (width - 1) + 0.5) * 255


def test_the_files_window_in_rescaled_units(tmp_path):
    path = write_dicom(
        tmp_path / "x.dcm",
        CT,
        RescaleSlope=2,
        RescaleIntercept=-1024,
        WindowCenter=[40, 300],
        WindowWidth=[400, 1500],
    )
    expected = [slow_linear_window(2 * int(value) - 1024, 40, 400) for value in CT.flat]
    np.testing.assert_allclose(read_image(path, AUTO).ravel(), expected, atol=0.5 + 1e-9)
    assert read_size(path) == (5, 8)


def test_an_exact_window_runs_from_end_to_end(tmp_path):
    path = write_dicom(
        tmp_path / "x.dcm", CT, WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT"
    )
    np.testing.assert_array_equal(read_image(path, AUTO), windowed(CT, 750, 1250))


def test_what_is_asked_for_goes_before_the_files_window(tmp_path):
    path = write_dicom(
        tmp_path / "x.dcm", CT, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=10
    )
    pixels = read_image(path, IntensityWindow.parse("-160,240"))
    np.testing.assert_array_equal(pixels, windowed(CT - 1024.0, -160, 240))
    pixels = read_image(path, IntensityWindow.parse("percentiles 10,90"))
    np.testing.assert_array_equal(pixels, windowed(CT, *np.percentile(CT, (10, 90))))


@pytest.mark.parametrize("window", [{}, {"WindowCenter": "", "WindowWidth": ""}, {"WindowWidth": 9},
                                    {"WindowCenter": 5, "WindowWidth": 0}])  # fmt: skip
def test_percentiles_where_the_file_names_no_window(tmp_path, window):
    path = write_dicom(tmp_path / "x.dcm", CT, **window)
    np.testing.assert_array_equal(read_image(path, AUTO), stretched(CT))


def test_monochrome1_is_inverted_after_the_window(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", CT, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_image(path, AUTO), 255 - stretched(CT))
    pixels = read_image(path, IntensityWindow.parse("0,1000"))
    np.testing.assert_array_equal(pixels, 255 - windowed(CT, 0, 1000))


def test_8_bits_stay_unless_the_file_names_a_window(tmp_path):
    plain = write_dicom(tmp_path / "plain.dcm", GREY)
    np.testing.assert_array_equal(read_image(plain, AUTO), GREY)
    own = write_dicom(tmp_path / "own.dcm", GREY, WindowCenter=101, WindowWidth=52)
    np.testing.assert_array_equal(read_image(own, AUTO), windowed(GREY.astype(float), 75, 126))


def test_a_voi_table_shows_what_no_window_does(tmp_path):
    table = np.arange(4095, -1, -1, dtype=np.uint16)
    item = sequence_item(LUTDescriptor=[4096, 0, 12])
    item.add_new("LUTData", "OW", table.tobytes())
    path = write_dicom(tmp_path / "x.dcm", CT.astype(np.uint16), VOILUTSequence=[item])
    np.testing.assert_array_equal(read_image(path, AUTO), windowed(4095 - CT, 0, 4095))
    pixels = read_image(path, IntensityWindow.parse("0,1000"))
    np.testing.assert_array_equal(pixels, windowed(CT, 0, 1000))


def test_a_modality_table_goes_before_the_window(tmp_path):
    item = sequence_item(LUTDescriptor=[256, 0, 16], ModalityLUTType="US")
    item.add_new("LUTData", "OW", (np.arange(256, dtype=np.uint16) * 5).tobytes())
    path = write_dicom(tmp_path / "x.dcm", GREY, ModalityLUTSequence=[item])
    pixels = read_image(path, IntensityWindow.parse("100,600"))
    np.testing.assert_array_equal(pixels, windowed(GREY * 5.0, 100, 600))


def test_colour(tmp_path):
    rgb = RNG.integers(0, 256, (2, 5, 8, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "x.dcm", rgb)
    np.testing.assert_array_equal(read_image(path, AUTO, 1), rgb[1])


def test_a_palette(tmp_path):
    dataset = dicom_dataset(GREY)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour, factor in (("Red", 1), ("Green", 2), ("Blue", 3)):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = (np.arange(256) * factor * 50).astype(np.uint16)
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    pixels = read_image(tmp_path / "x.dcm", AUTO)
    np.testing.assert_array_equal(pixels, apply_color_lut(GREY, dataset) // 256)
    assert pixels[0, 0].tolist() == [int(GREY[0, 0]) * 50 * factor // 256 for factor in (1, 2, 3)]


def test_frames(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", STACK, WindowCenter=1500, WindowWidth=1000)
    assert count_frames(path) == 3
    for frame in range(3):
        np.testing.assert_array_equal(
            read_image(path, AUTO, frame), windowed(STACK[frame], 1000, 1999)
        )
    with pytest.raises(UserError, match=r"x\.dcm: holds 3 frames"):
        read_image(path, AUTO)
    with pytest.raises(UserError, match=r"x\.dcm: has no frame 3"):
        read_image(path, AUTO, 3)


def test_frames_with_transformations_of_their_own(tmp_path):
    def group(centre):
        window = sequence_item(WindowCenter=centre, WindowWidth=101)
        return sequence_item(FrameVOILUTSequence=[window])

    shared = sequence_item(
        PixelValueTransformationSequence=[sequence_item(RescaleSlope=1, RescaleIntercept=-100)]
    )
    path = write_dicom(
        tmp_path / "x.dcm",
        STACK,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group(300.5), group(600.5), group(900.5)],
    )
    for frame, low in enumerate((250, 550, 850)):
        expected = windowed(STACK[frame] - 100.0, low, low + 100)
        np.testing.assert_array_equal(read_image(path, AUTO, frame), expected)


def test_compression_that_is_installed(tmp_path):
    dataset = dicom_dataset(CT)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.dcm", AUTO), stretched(CT))


def test_compression_that_is_not_installed_names_the_plugin(tmp_path, monkeypatch):
    plugin = "pylibjpeg - requires pylibjpeg>=2.0 and pylibjpeg-libjpeg>=2.1"
    monkeypatch.setattr(Decoder, "is_available", False)
    monkeypatch.setattr(Decoder, "missing_dependencies", [plugin])
    dataset = dicom_dataset(CT)
    dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(
        UserError, match=r"x\.dcm: is compressed as JPEG-LS.*pip install.*pylibjpeg"
    ):
        read_image(tmp_path / "x.dcm", AUTO)


@pytest.mark.parametrize("name", ["1.2.840.113619.2.55", "IM0001"])
def test_a_file_without_a_suffix_is_known_by_its_preamble(tmp_path, name):
    write_dicom(tmp_path / "good" / name, CT)
    (tmp_path / "good" / "README").write_text("no image")
    shutil.copy(tmp_path / "good" / name, tmp_path / "good" / "DICOMDIR")
    split = find_normal_images(tmp_path, key="TRAIN_DATA_PATH")
    assert [sample.path.name for sample in split.samples] == [name]
    np.testing.assert_array_equal(read_image(tmp_path / "good" / name, AUTO), stretched(CT))


def test_masks_of_dicom_use_stored_values(tmp_path):
    mask = np.array([[0, 1], [2, 0]], np.uint16)
    path = write_dicom(
        tmp_path / "x.dcm", mask, RescaleIntercept=-1024, PhotometricInterpretation="MONOCHROME1"
    )
    assert read_mask(path).tolist() == [[False, True], [True, False]]


def no_pixels(path):
    dataset = dicom_dataset(CT)
    del dataset.Rows, dataset.PixelData
    dataset.SOPClassUID = SegmentationStorage
    dataset.save_as(path, enforce_file_format=True)


def cut(path):
    write_dicom(path, CT)
    path.write_bytes(path.read_bytes()[:-20])


BROKEN_DICOM = {
    "text": (lambda path: path.write_text("no image"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "preamble": (lambda path: path.write_bytes(b"\0" * 128 + b"DICM"), "holds no image"),
    "cut": (cut, "cannot be read"),
    "no pixels": (no_pixels, r"holds no image \(Segmentation Storage\)"),
    "huge": (lambda path: write_dicom(path, CT, Rows=60_000, Columns=60_000), "over the limit"),
    "flat": (lambda path: write_dicom(path, CT, Rows=0), "empty"),
    "missing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("kind", BROKEN_DICOM)
@pytest.mark.filterwarnings("ignore")
def test_broken_dicom(tmp_path, kind):
    write, reason = BROKEN_DICOM[kind]
    write(tmp_path / "x.dcm")
    with pytest.raises(UserError, match=reason) as caught:
        read_image(tmp_path / "x.dcm", AUTO)
    assert str(caught.value).startswith(f"{tmp_path / 'x.dcm'}: ")
    assert "\n" not in str(caught.value)


@given(place=st.integers(132, 700), byte=st.integers(0, 255))
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_dicom_gives_pixels_or_an_error_that_names_it(tmp_path_factory, place, byte):
    path = write_dicom(tmp_path_factory.mktemp("damaged") / "x.dcm", CT, WindowCenter=9)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        outcome = str(read_image(path, AUTO, 0).dtype)
    except UserError as error:
        outcome = str(error)
    assert outcome == "uint8" or "x.dcm" in outcome


def slow_slices(image, axis):
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
        name = f"{order}{signs}{suffix}"
        path = write_nifti(tmp_path / name, VOLUME, affine, slope=0.5)
        image = nibabel.load(path)
        expected = list(slow_slices(image, number))
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


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_percentiles_are_those_of_the_volume(tmp_path, suffix):
    path = write_nifti(tmp_path / f"x{suffix}", VOLUME, slope=0.25)
    pixels = read_image(path, AUTO, 2)
    expected = stretched(VOLUME[::-1, ::-1, 2].T / 4, of=VOLUME / 4)
    np.testing.assert_array_equal(pixels, expected)


def test_percentiles_of_a_large_volume_are_estimated(tmp_path):
    volume = RNG.normal(0, 300, (100, 110, 90)).astype(np.float32)
    path = write_nifti(tmp_path / "x.nii", volume)
    low, high = nifti._volume_percentiles(path, 0, 0.5, 99.5)
    assert abs(low - np.percentile(volume, 0.5)) < 15
    assert abs(high - np.percentile(volume, 99.5)) < 15


def test_8_bit_volumes_stay(tmp_path):
    volume = RNG.integers(0, 256, (4, 5, 6), dtype=np.uint8)
    path = write_nifti(tmp_path / "x.nii.gz", volume)
    np.testing.assert_array_equal(read_image(path, AUTO, 0), volume[::-1, ::-1, 0].T)


def test_a_compressed_volume_is_unpacked_once_for_its_slices(tmp_path):
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    before = nifti._unpacked.cache_info().misses
    for frame in range(6):
        read_image(path, AUTO, frame)
    assert nifti._unpacked.cache_info().misses == before + 1


def test_a_volume_too_large_to_keep_is_read_slice_by_slice(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    kept = read_image(path, AUTO, 3)
    monkeypatch.setattr(nifti, "_KEPT_BYTES", 10)
    before = nifti._unpacked.cache_info()
    np.testing.assert_array_equal(read_image(path, AUTO, 3), kept)
    assert nifti._unpacked.cache_info() == before


def test_a_replaced_volume_is_read_anew(tmp_path):
    path = write_nifti(tmp_path / "x.nii.gz", VOLUME)
    window = IntensityWindow.parse("-1000,2000")
    first = read_image(path, window, 0)
    write_nifti(path, VOLUME[::-1].copy())
    assert not np.array_equal(read_image(path, window, 0), first)


def test_dimensions_of_one_are_no_dimensions(tmp_path):
    path = write_nifti(tmp_path / "x.nii", VOLUME[..., None])
    assert count_frames(path) == 6
    assert read_image(path, AUTO, 1).shape == (5, 4)


def cut_nifti(path):
    write_nifti(path, VOLUME)
    path.write_bytes(path.read_bytes()[:-100])


def without_orientation(path):
    write_nifti(path, VOLUME)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        content = bytearray(file.read())
    content[280:296] = bytes(16)  # srow_x: where the first voxel axis leads to
    with opener(path, "wb") as file:
        file.write(content)


BROKEN_NIFTI = {
    "5-D": (lambda path: write_nifti(path, np.zeros((4, 5, 6, 1, 2), np.int16)), "has 5 dim"),
    "1-D": (lambda path: write_nifti(path, np.zeros(4, np.int16)), "has 1 dimensions"),
    "complex": (lambda path: write_nifti(path, np.zeros((2, 2, 2), np.complex64)), "complex64"),
    "text": (lambda path: path.write_text("no image"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "cut": (cut_nifti, "cannot be read"),
    "NaN": (lambda path: write_nifti(path, np.full((2, 2, 2), np.nan, np.float32)), "NaN"),
    "no orientation": (without_orientation, "orientation"),
    "missing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", BROKEN_NIFTI)
@pytest.mark.filterwarnings("ignore")
def test_broken_nifti(tmp_path, kind, suffix):
    write, reason = BROKEN_NIFTI[kind]
    path = tmp_path / f"x{suffix}"
    write(path)
    with pytest.raises(UserError, match=reason) as caught:
        read_image(path, AUTO, 0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "package"), [("x.dcm", "pydicom"), ("x.nii.gz", "nibabel")])
def test_without_the_extra_the_command_is_named(tmp_path, monkeypatch, name, package):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / name).write_bytes(b"any")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'{package}.*pip install -e "\.\[medical\]"'):
        read_image(tmp_path / "good" / name, AUTO)
    with pytest.raises(UserError, match=rf'{package}.*pip install -e "\.\[medical\]"'):
        find_normal_images(tmp_path, key="TRAIN_DATA_PATH")


def test_a_volume_and_its_mask_become_frames(tmp_path):
    mask = np.zeros_like(VOLUME)
    mask[1, 2, 3] = 2
    write_nifti(tmp_path / "Ungood/img/case.nii.gz", VOLUME)
    write_nifti(tmp_path / "Ungood/label/case.nii", mask.astype(np.uint8))
    write_nifti(tmp_path / "good/img/healthy.nii", VOLUME[..., :2])
    split = find_split(tmp_path, key="TEST_DATA_PATH")
    names = [sample.name.removeprefix(f"{tmp_path}/") for sample in split.samples]
    assert names == [f"Ungood/img/case.nii.gz#{k}" for k in range(6)] + [
        "good/img/healthy.nii#0",
        "good/img/healthy.nii#1",
    ]
    assert split.labels == [0, 0, 0, 1, 0, 0, 0, 0]
    assert split.has_masks
    check_headers(split)
    items = [AnomalyDataset(split, 8, AUTO)[index] for index in range(8)]
    assert [bool(item["mask"].any()) for item in items] == [label == 1 for label in split.labels]
    assert marked_frames(tmp_path / "Ungood/label/case.nii", axis="sagittal") == [
        False,
        True,
        False,
        False,
    ]


def test_without_masks_all_frames_of_an_anomalous_file_are_anomalous(tmp_path):
    write_dicom(tmp_path / "Ungood/case.dcm", STACK)
    split = find_split(tmp_path, key="TEST_DATA_PATH", slicing=Slicing("coronal"))
    assert split.labels == [1, 1, 1]
    assert not split.has_masks


def test_a_mask_of_other_frames_is_an_error(tmp_path):
    write_nifti(tmp_path / "Ungood/img/case.nii.gz", VOLUME)
    write_nifti(tmp_path / "Ungood/label/case.nii.gz", VOLUME[..., :5])
    with pytest.raises(UserError, match=r"label/case\.nii\.gz: does not cover .* 1 mm beyond"):
        find_split(tmp_path, key="TEST_DATA_PATH")


def test_a_mask_on_another_grid_is_an_error(tmp_path):
    write_nifti(tmp_path / "Ungood/img/case.nii.gz", VOLUME)
    write_nifti(tmp_path / "Ungood/label/case.nii.gz", np.ones((3, 5, 6), np.uint8))
    with pytest.raises(UserError, match=r"label/case\.nii\.gz: does not cover .* 1 mm beyond"):
        find_split(tmp_path, key="TEST_DATA_PATH")


def test_an_unreadable_mask_volume_is_named(tmp_path):
    write_nifti(tmp_path / "Ungood/img/case.nii.gz", VOLUME)
    (tmp_path / "Ungood/label").mkdir()
    (tmp_path / "Ungood/label/case.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"label/case\.nii\.gz: cannot be read"):
        find_split(tmp_path, key="TEST_DATA_PATH")


def test_an_empty_mask_volume_is_warned_of(tmp_path, caplog):
    write_nifti(tmp_path / "Ungood/img/case.nii.gz", VOLUME)
    write_nifti(tmp_path / "Ungood/label/case.nii.gz", np.zeros_like(VOLUME))
    assert find_split(tmp_path, key="TEST_DATA_PATH").labels == [0] * 6
    assert "label/case.nii.gz: marks nothing" in caplog.text
