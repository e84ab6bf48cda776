"""DICOM files as other people's devices and programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
)

from datasets.folders.find import find_normal_images
from datasets.folders.inputs import find_inputs
from datasets.readers.formats import kind_of
from datasets.readers.image import count_frames, read_image
from tests.medical_files import dicom_dataset, sequence_item, write_dicom
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
RNG = np.random.default_rng(15)
CT = RNG.integers(0, 3000, (5, 8), dtype=np.uint16)


def packaged(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def shades(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def test_a_deflated_file(tmp_path: Path) -> None:
    plain = write_dicom(tmp_path / "plain.dcm", CT)
    dataset = dicom_dataset(CT)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.dcm", AUTO), read_image(plain, AUTO))
    assert read_image(packaged("image_dfl.dcm"), AUTO).shape == (512, 512)


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619", "slice.IMA", "v1.final"])
def test_dicom_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    path = write_dicom(tmp_path / "good" / name, CT)
    write_dicom(tmp_path / "good" / "dicomdir", CT)
    assert kind_of(path) == "dicom"
    split = find_normal_images(tmp_path, key="TRAIN_DATA_PATH")
    assert [sample.path for sample in split.samples] == [path]
    assert [sample.path for sample in find_inputs(tmp_path / "good")] == [path]


# One file of each kind of compression, and its shape.
COMPRESSED = {
    "JPEG baseline": ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3)),
    "JPEG extended, 12 bits": ("JPGExtended.dcm", (1024, 256)),
    "JPEG lossless": ("SC_rgb_jpeg_gdcm.dcm", (100, 100, 3)),
    "JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", (64, 64)),
    "JPEG-LS near-lossless": ("JPEGLSNearLossless_16.dcm", (50, 10)),
    "JPEG 2000 lossless": ("MR_small_jp2klossless.dcm", (64, 64)),
    "JPEG 2000": ("JPEG2000.dcm", (1024, 256)),
    "RLE": ("MR_small_RLE.dcm", (64, 64)),
}


@pytest.mark.parametrize(("name", "shape"), COMPRESSED.values(), ids=COMPRESSED)
def test_each_compression_is_unpacked(name: str, shape: tuple[int, ...]) -> None:
    pixels = read_image(packaged(name), AUTO)
    assert pixels.shape == shape
    assert pixels.std() > 10
    if name.startswith("MR_small"):
        np.testing.assert_array_equal(pixels, read_image(packaged("MR_small.dcm"), AUTO))


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL])
def test_high_throughput_jpeg_2000_has_its_decoder(syntax: UID) -> None:
    assert get_decoder(syntax).is_available


def test_a_video_is_refused_by_the_name_of_its_compression(tmp_path: Path) -> None:
    dataset = dicom_dataset(CT)
    dataset.compress("1.2.840.10008.1.2.5")
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(UserError, match=r"x\.dcm: is compressed as MPEG2.*decompress"):
        read_image(tmp_path / "x.dcm", AUTO)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "high bit": ({"BitsStored": 12, "HighBit": 15}, r"HighBit \(0028,0102\) is 15.*12"),
    "slope": ({"RescaleSlope": 0, "RescaleIntercept": 0}, r"RescaleSlope \(0028,1053\) is 0"),
}


@pytest.mark.parametrize(("elements", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_leaves_no_picture_is_named(
    tmp_path: Path, elements: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        read_image(write_dicom(tmp_path / "x.dcm", CT, **elements), AUTO)


def test_a_file_without_a_header_is_refused_in_our_words() -> None:
    with pytest.raises(UserError, match="'DICM' at byte 128 is missing") as caught:
        read_image(packaged("no_meta.dcm"), AUTO)
    assert "force" not in str(caught.value)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    frames = RNG.integers(0, 2, (2, 8, 8), dtype=np.uint8)
    dataset = dicom_dataset(frames)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelData = np.packbits(frames, bitorder="little").tobytes()
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    for frame in range(2):
        np.testing.assert_array_equal(
            read_image(tmp_path / "x.dcm", AUTO, frame), frames[frame] * 255
        )


def test_a_window_of_width_1_is_a_threshold(tmp_path: Path) -> None:
    values = np.array([[0, 1499, 1500, 1501]], np.uint16)
    path = write_dicom(tmp_path / "x.dcm", values, WindowCenter=1500, WindowWidth=1)
    assert read_image(path, AUTO).tolist() == [[0, 0, 255, 255]]


def test_a_sigmoid_window(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "x.dcm", CT, WindowCenter=1000, WindowWidth=500, VOILUTFunction="SIGMOID"
    )
    expected = np.rint(255 / (1 + np.exp(-4 * (CT - 1000.0) / 500)))
    np.testing.assert_array_equal(read_image(path, AUTO), expected)


def without_limit(values: NDArray[np.int16]) -> NDArray[np.bool_]:
    return values == -2000


def up_to_limit(values: NDArray[np.int16]) -> NDArray[np.bool_]:
    return (values >= -2000) & (values <= -1990)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("limit", "marks"), [(None, without_limit), (-1990, up_to_limit)])
def test_padding_is_black_and_not_counted(
    tmp_path: Path,
    limit: int | None,
    marks: Callable[[NDArray[np.int16]], NDArray[np.bool_]],
    inverted: bool,
) -> None:
    values = CT.astype(np.int16)
    values[:2], values[2, 0] = -2000, -1995
    path = write_dicom(
        tmp_path / "x.dcm",
        values,
        PixelPaddingValue=-2000,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
        **({} if limit is None else {"PixelPaddingRangeLimit": limit}),
    )
    padding = marks(values)
    ends = np.percentile(values[~padding], (0.5, 99.5))
    for window, (low, high) in ((AUTO, ends), (IntensityWindow.parse("-3000,3000"), (-3000, 3000))):
        expected = shades(values.astype(float), low, high)
        expected = np.where(padding, 0, 255 - expected if inverted else expected)
        np.testing.assert_array_equal(read_image(path, window), expected)


def test_nothing_but_padding_is_black(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", np.full((4, 4), 7, np.uint16), PixelPaddingValue=7)
    assert not read_image(path, AUTO).any()


def test_a_voi_table_of_12_bits_that_says_16(tmp_path: Path) -> None:
    item = sequence_item(LUTDescriptor=[4096, 0, 16])
    item.add_new("LUTData", "OW", np.arange(4096, dtype=np.uint16).tobytes())
    path = write_dicom(tmp_path / "x.dcm", CT, VOILUTSequence=[item])
    plain = write_dicom(tmp_path / "plain.dcm", CT)
    np.testing.assert_array_equal(read_image(path, AUTO), read_image(plain, AUTO))


def test_a_modality_table_as_long_as_its_values_are_wide(tmp_path: Path) -> None:
    item = sequence_item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US")
    item.add_new("LUTData", "OW", (np.arange(4096, dtype=np.uint16) * 2).tobytes())
    grey = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
    path = write_dicom(tmp_path / "x.dcm", grey, ModalityLUTSequence=[item])
    pixels = read_image(path, IntensityWindow.parse("0,510"))
    np.testing.assert_array_equal(pixels, grey)


def test_a_palette_of_8_bits_that_says_16(tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
    dataset = dicom_dataset(grey)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = np.arange(256, dtype=np.uint16)
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_image(tmp_path / "x.dcm", AUTO), np.stack([grey] * 3, -1))


def test_colour_by_plane(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 256, (1, 6, 8, 3), dtype=np.uint8)
    planes = np.ascontiguousarray(np.moveaxis(rgb, 3, 1)).tobytes()
    path = write_dicom(tmp_path / "x.dcm", rgb, PlanarConfiguration=1, PixelData=planes)
    np.testing.assert_array_equal(read_image(path, AUTO), rgb[0])


def test_luminance_and_chrominance_become_rgb() -> None:
    pixels = read_image(packaged("SC_ybr_full_422_uncompressed.dcm"), AUTO)
    np.testing.assert_allclose(pixels[5, 50], (255, 0, 0), atol=3)
    assert pixels.shape == (100, 100, 3)


def test_signed_pixels_of_12_bits(tmp_path: Path) -> None:
    values = RNG.integers(-2048, 2048, (5, 8), dtype=np.int16)
    # What stands above the stored bits is no part of the value.
    path = write_dicom(tmp_path / "x.dcm", values & 0x0FFF, BitsStored=12, HighBit=11)
    pixels = read_image(path, IntensityWindow.parse("-2048,2047"))
    np.testing.assert_array_equal(pixels, shades(values.astype(float), -2048, 2047))


def test_floats(tmp_path: Path) -> None:
    dataset = dicom_dataset(CT)
    values = CT.astype(np.float32) / 7
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated, dataset.FloatPixelData = 32, values.tobytes()
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    ends = np.percentile(values.astype(float), (0.5, 99.5))
    expected = shades(values.astype(float), ends[0], ends[1])
    np.testing.assert_array_equal(read_image(tmp_path / "x.dcm", AUTO), expected)


def test_frames_of_a_compressed_file() -> None:
    path = packaged("SC_rgb_rle_2frame.dcm")
    expected = dcmread(path).pixel_array
    assert count_frames(path) == 2
    for frame in range(2):
        np.testing.assert_array_equal(read_image(path, AUTO, frame), expected[frame])


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_written_without_a_sign_counts_in_signed_files(
    tmp_path: Path, inverted: bool
) -> None:
    values = CT.astype(np.int16)
    values[:2] = -20000
    dataset = dicom_dataset(values)
    if inverted:
        dataset.PhotometricInterpretation = "MONOCHROME1"
    # As many scanners write it: the bits of a signed number in a type without sign.
    dataset.add_new("PixelPaddingValue", "US", 2**16 - 20000)
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    picture = values[2:].astype(float)
    expected = shades(picture, *np.percentile(picture, (0.5, 99.5)))
    pixels = read_image(tmp_path / "x.dcm", AUTO)
    assert not pixels[:2].any()
    np.testing.assert_array_equal(pixels[2:], 255 - expected if inverted else expected)


def test_padding_of_floats(tmp_path: Path) -> None:
    values = CT.astype(np.float32)
    values[:, :2] = -9999
    dataset = dicom_dataset(CT)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated, dataset.FloatPixelData = 32, values.tobytes()
    dataset.FloatPixelPaddingValue = -9999.0
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    picture = values[:, 2:].astype(float)
    pixels = read_image(tmp_path / "x.dcm", AUTO)
    assert not pixels[:, :2].any()
    expected = shades(picture, *np.percentile(picture, (0.5, 99.5)))
    np.testing.assert_array_equal(pixels[:, 2:], expected)


def test_a_file_that_is_cut_short_is_told_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(packaged("MR_truncated.dcm").read_bytes())
    with pytest.raises(UserError, match=r"x\.dcm: .*its pixels are cut short"):
        read_image(path, AUTO)
