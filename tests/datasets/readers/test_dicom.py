"""DICOM as devices and programs write it: intensities by hand."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from datasets.readers.image import count_frames, read_image, read_mask, read_size
from tests.medical_files import (
    dicom_dataset,
    packaged,
    saved,
    sequence_item,
    stretched,
    windowed,
    write_dicom,
)
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
RNG = np.random.default_rng(15)
CT = RNG.integers(0, 3000, (5, 8), dtype=np.int16)
GREY = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
STACK = RNG.integers(0, 3000, (3, 5, 8), dtype=np.int16)
RGB = RNG.integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)


def table_item(table: NDArray[np.uint16], bits: int, **elements: Any) -> Dataset:
    item = sequence_item(LUTDescriptor=[len(table), 0, bits], **elements)
    item.add_new("LUTData", "OW", table.astype(np.uint16).tobytes())
    return item


def floats_dataset(values: NDArray[np.float32]) -> Dataset:
    dataset = dicom_dataset(values.view(np.int32))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.FloatPixelData = values.tobytes()
    return dataset


def slow_linear_window(value: int, centre: float, width: float) -> float:
    """DICOM PS3.3 C.11.2.1.2.1, word for word, with outputs from 0 to 255."""
    if value <= centre - 0.5 - (width - 1) / 2:
        return 0
    if value > centre - 0.5 + (width - 1) / 2:
        return 255
    return ((value - (centre - 0.5)) / (width - 1) + 0.5) * 255


def test_the_files_window_in_rescaled_units(tmp_path):
    elements = {"WindowCenter": [40, 300], "WindowWidth": [400, 1500]}
    path = write_dicom(tmp_path / "x.dcm", CT, RescaleSlope=2, RescaleIntercept=-1024, **elements)
    expected = [slow_linear_window(2 * int(value) - 1024, 40, 400) for value in CT.flat]
    np.testing.assert_allclose(read_image(path, AUTO).ravel(), expected, atol=0.5 + 1e-9)
    assert read_size(path) == (5, 8)
    pixels = read_image(path, IntensityWindow.parse("-160,240"))
    np.testing.assert_array_equal(pixels, windowed(2 * CT - 1024.0, -160, 240))


SHADES: dict[str, tuple[dict[str, Any], NDArray[Any]]] = {
    "exact": ({"WindowCenter": 1000, "WindowWidth": 500, "VOILUTFunction": "LINEAR_EXACT"},
              windowed(CT, 750, 1250)),
    "sigmoid": ({"WindowCenter": 1000, "WindowWidth": 500, "VOILUTFunction": "SIGMOID"},
                np.rint(255 / (1 + np.exp(-4 * (CT - 1000.0) / 500)))),
    "threshold": ({"WindowCenter": 1500, "WindowWidth": 1}, np.where(CT > 1499, 255, 0)),
    "table": ({"VOILUTSequence": [table_item(np.arange(4095, -1, -1), 12)]},
              windowed(4095 - CT, 0, 4095)),
    "table of 12 bits that says 16": ({"VOILUTSequence": [table_item(np.arange(4096), 16)]},
                                      stretched(CT)),
    "none": ({}, stretched(CT)),
    "empty": ({"WindowCenter": "", "WindowWidth": ""}, stretched(CT)),
    "no centre": ({"WindowWidth": 9}, stretched(CT)),
    "no width": ({"WindowCenter": 5, "WindowWidth": 0}, stretched(CT)),
}  # fmt: skip


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("elements", "expected"), SHADES.values(), ids=SHADES)
def test_the_files_own_shades_unless_a_window_is_asked_for(tmp_path, elements, expected, inverted):
    if inverted:
        elements = elements | {"PhotometricInterpretation": "MONOCHROME1"}
    path = write_dicom(tmp_path / "x.dcm", CT, **elements)
    for window, shades in (
        (AUTO, expected),
        (IntensityWindow.parse("0,1000"), windowed(CT, 0, 1000)),
        (IntensityWindow.parse("percentiles 10,90"), windowed(CT, *np.percentile(CT, (10, 90)))),
    ):
        wanted = 255 - shades if inverted else shades
        np.testing.assert_array_equal(read_image(path, window), wanted)


def test_8_bits_stay_unless_the_file_names_a_window(tmp_path):
    plain = write_dicom(tmp_path / "plain.dcm", GREY)
    np.testing.assert_array_equal(read_image(plain, AUTO), GREY)
    own = write_dicom(tmp_path / "own.dcm", GREY, WindowCenter=101, WindowWidth=52)
    np.testing.assert_array_equal(read_image(own, AUTO), windowed(GREY.astype(float), 75, 126))


@pytest.mark.parametrize("length", [256, 4096])
def test_a_modality_table_goes_before_the_window(tmp_path, length):
    item = table_item(np.arange(length) * 5, 16, ModalityLUTType="US")
    path = write_dicom(tmp_path / "x.dcm", GREY, ModalityLUTSequence=[item])
    pixels = read_image(path, IntensityWindow.parse("100,600"))
    np.testing.assert_array_equal(pixels, windowed(GREY * 5.0, 100, 600))


# 8 bits are often declared as 16, and stored so.
@pytest.mark.parametrize("factor", [1, 50 * 256])
def test_a_palette(tmp_path, factor):
    indices = GREY.astype(int) % 5
    dataset = dicom_dataset(indices.astype(np.uint8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for number, colour in enumerate(("Red", "Green", "Blue"), start=1):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        table = (np.arange(256) % 5 * number * factor // 4).astype(np.uint16)
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
    shades = np.stack([indices * number * factor // 4 for number in (1, 2, 3)], -1)
    expected = shades if factor == 1 else shades // 256
    np.testing.assert_array_equal(read_image(saved(dataset, tmp_path / "x.dcm"), AUTO), expected)


def test_colour_by_pixel_and_by_plane(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", RGB)
    np.testing.assert_array_equal(read_image(path, AUTO, 1), RGB[1])
    planes = np.ascontiguousarray(np.moveaxis(RGB, 3, 1)).tobytes()
    path = write_dicom(tmp_path / "y.dcm", RGB, PlanarConfiguration=1, PixelData=planes)
    np.testing.assert_array_equal(read_image(path, AUTO, 1), RGB[1])


def test_luminance_and_chrominance_become_rgb():
    pixels = read_image(packaged("SC_ybr_full_422_uncompressed.dcm"), AUTO)
    np.testing.assert_allclose(pixels[5, 50], (255, 0, 0), atol=3)
    assert pixels.shape == (100, 100, 3)


def test_frames(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", STACK, WindowCenter=1500, WindowWidth=1000)
    assert count_frames(path) == 3
    for frame in range(3):
        expected = windowed(STACK[frame], 1000, 1999)
        np.testing.assert_array_equal(read_image(path, AUTO, frame), expected)
    with pytest.raises(UserError, match=r"x\.dcm: has 3 frames"):
        read_image(path, AUTO)
    with pytest.raises(UserError, match=r"x\.dcm: has no frame 3"):
        read_image(path, AUTO, 3)
    compressed_frames = packaged("SC_rgb_rle_2frame.dcm")
    assert count_frames(compressed_frames) == 2
    for frame, expected in enumerate(dcmread(compressed_frames).pixel_array):
        np.testing.assert_array_equal(read_image(compressed_frames, AUTO, frame), expected)


def test_frames_with_transformations_of_their_own(tmp_path):
    def group(centre: float) -> Dataset:
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


def test_one_bit_is_black_and_white(tmp_path):
    frames = RNG.integers(0, 2, (2, 8, 8), dtype=np.uint8)
    dataset = dicom_dataset(frames)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.PixelData = np.packbits(frames, bitorder="little").tobytes()
    path = saved(dataset, tmp_path / "x.dcm")
    for frame in range(2):
        np.testing.assert_array_equal(read_image(path, AUTO, frame), frames[frame] * 255)


def test_signed_pixels_of_12_bits(tmp_path):
    values = RNG.integers(-2048, 2048, (5, 8), dtype=np.int16)
    # What stands above the stored bits is no part of the value.
    path = write_dicom(tmp_path / "x.dcm", values & 0x0FFF, BitsStored=12, HighBit=11)
    pixels = read_image(path, IntensityWindow.parse("-2048,2047"))
    np.testing.assert_array_equal(pixels, windowed(values.astype(float), -2048, 2047))


def test_floats_and_their_padding(tmp_path):
    values = CT.astype(np.float32) / 7
    path = saved(floats_dataset(values), tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_image(path, AUTO), stretched(values.astype(float)))
    values[:, :2] = -9999
    dataset = floats_dataset(values)
    dataset.FloatPixelPaddingValue = -9999.0
    pixels = read_image(saved(dataset, tmp_path / "y.dcm"), AUTO)
    assert not pixels[:, :2].any()
    np.testing.assert_array_equal(pixels[:, 2:], stretched(values[:, 2:].astype(float)))


# The padding's elements, and the highest value that they mark. Many scanners write the bits of a
# signed number in a type without sign.
PADDING = {
    "value": ([("PixelPaddingValue", "SS", -2000)], -2000),
    "range": ([("PixelPaddingValue", "SS", -2000), ("PixelPaddingRangeLimit", "SS", -1990)], -1990),
    "without a sign": ([("PixelPaddingValue", "US", 2**16 - 2000)], -2000),
}


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(("elements", "highest"), PADDING.values(), ids=PADDING)
def test_padding_is_black_and_not_counted(tmp_path, elements, highest, inverted):
    values = CT.copy()
    values[:2], values[2, 0] = -2000, -1995
    dataset = dicom_dataset(values)
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    for element in elements:
        dataset.add_new(*element)
    path = saved(dataset, tmp_path / "x.dcm")
    padding = values <= highest
    wide = IntensityWindow.parse("-3000,3000")
    for window, shades in (
        (AUTO, stretched(values, of=values[~padding])),
        (wide, windowed(values, -3000, 3000)),
    ):
        expected = np.where(padding, 0, 255 - shades if inverted else shades)
        np.testing.assert_array_equal(read_image(path, window), expected)
    alone = write_dicom(tmp_path / "y.dcm", np.full((4, 4), 7, np.uint16), PixelPaddingValue=7)
    assert not read_image(alone, AUTO).any()


def test_masks_use_stored_values(tmp_path):
    mask = np.array([[0, 1], [2, 0]], np.uint16)
    path = write_dicom(
        tmp_path / "x.dcm", mask, RescaleIntercept=-1024, PhotometricInterpretation="MONOCHROME1"
    )
    assert read_mask(path).tolist() == [[False, True], [True, False]]


def test_a_window_that_is_not_used_need_not_be_readable(tmp_path):
    window = {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXAKT"}
    path = write_dicom(tmp_path / "x.dcm", CT, **window)
    with pytest.raises(UserError, match=r"LINEAR_EXAKT"):
        read_image(path, AUTO)
    pixels = read_image(path, IntensityWindow.parse("-160,240"))
    np.testing.assert_array_equal(pixels, windowed(CT, -160, 240))
