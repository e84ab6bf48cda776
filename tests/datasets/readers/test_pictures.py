"""Pictures as cameras, microscopes and other people's programs write them."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from datasets.readers.image import count_frames, read_image, read_mask, read_size
from datasets.readers.library_logs import keep_warnings
from tests.medical_files import stretched
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
RAMP = np.arange(48 * 32).reshape(48, 32) * 2  # up to 3070, of 12 bits
GREY = (RAMP >> 4).astype(np.uint8)
RGB = np.dstack([GREY, 255 - GREY, GREY // 2])
ORIENTATION = 0x0112


def write(path: Path, values: NDArray[Any], **options: Any) -> Path:
    options = {"photometric": "minisblack", "metadata": None} | options
    tifffile.imwrite(path, values, **options)
    return path


DEPTHS: dict[str, NDArray[Any]] = {
    "int8": (GREY.astype(np.int16) - 96).astype(np.int8),
    "uint16": RAMP.astype(np.uint16),
    "int16": (RAMP - 1500).astype(np.int16),
    "uint32": RAMP.astype(np.uint32) * 1_000_003,
    "int32": RAMP.astype(np.int32) * 1_000 - 9,
    "uint64": RAMP.astype(np.uint64) << 40,
    "float16": RAMP.astype(np.float16) / 4,
    "float32": RAMP.astype(np.float32) / 7,
    "float64": RAMP * 1e-300,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 16)},
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib"},
    "packbits": {"compression": "packbits"},
    "zstd": {"compression": "zstd"},
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_tiff_of_every_depth(tmp_path, depth, photometric):
    values = DEPTHS[depth]
    path = write(tmp_path / "x.tif", values, photometric=photometric)
    expected = stretched(values.astype(float))
    inverted = photometric == "miniswhite"
    np.testing.assert_array_equal(read_image(path, AUTO), 255 - expected if inverted else expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff_of_every_layout(tmp_path, layout):
    for name, values in {"grey": GREY, "deep": RAMP.astype(np.uint16), "rgb": RGB}.items():
        photometric = "rgb" if name == "rgb" else "minisblack"
        path = write(tmp_path / f"{name}.tif", values, photometric=photometric, **LAYOUTS[layout])
        expected = stretched(values.astype(float)) if name == "deep" else values
        np.testing.assert_array_equal(read_image(path, AUTO), expected)
        assert read_size(path) == GREY.shape


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("inverted", [False, True])
def test_shallow_grey_tiff_reaches_from_black_to_white(tmp_path, bits, inverted):
    values = (np.arange(64).reshape(8, 8) % 2**bits).astype(np.uint8)
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., -bits:].reshape(8, -1), 1)
    path = tmp_path / "x.tif"
    write(path, np.zeros((8, 8), np.uint8), photometric="miniswhite" if inverted else "minisblack")
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages.first
        file.filehandle.seek(page.dataoffsets[0])
        file.filehandle.write(packed.tobytes())
        page.tags["BitsPerSample"].overwrite(bits)
        page.tags["StripByteCounts"].overwrite(packed.size)
    expected = (values.astype(int) * 255 // (2**bits - 1)).astype(np.uint8)
    np.testing.assert_array_equal(read_image(path, AUTO), 255 - expected if inverted else expected)
    marked = values < 2**bits - 1 if inverted else values > 0
    np.testing.assert_array_equal(read_mask(path), marked)


def test_white_is_zero_of_8_bits_and_its_mask(tmp_path):
    path = write(tmp_path / "x.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(path, AUTO), 255 - GREY)
    deep = np.where(GREY > 90, 65535, 7).astype(np.uint16)
    path = write(tmp_path / "mask.tif", deep, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(path), GREY <= 90)
    path = write(tmp_path / "float.tif", GREY.astype(np.float32), photometric="miniswhite")
    with pytest.raises(UserError, match="must use unsigned integers"):
        read_mask(path)


def test_planar_tiff_and_colour_of_16_bits(tmp_path):
    planes = np.moveaxis(RGB, 2, 0)
    path = write(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(path, AUTO), RGB)
    path = write(tmp_path / "d.tif", RGB.astype(np.uint16) * 257, photometric="rgb")
    np.testing.assert_array_equal(read_image(path, AUTO), RGB)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_in_tiff(tmp_path, photometric):
    smooth = np.dstack([np.full_like(GREY, 60), GREY // 2 + 60, np.full_like(GREY, 200)])
    options = {"compression": "jpeg", "compressionargs": {"level": 98}, "tile": (16, 16)}
    stored = smooth
    if photometric == "ycbcr":
        stored = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=photometric, **options)
    difference = read_image(tmp_path / "x.tif", AUTO).astype(int) - smooth
    assert np.abs(difference).max() < 12


@pytest.mark.parametrize("factor", [1, 256])
def test_palettes_of_16_bits_and_those_that_hold_8(tmp_path, factor):
    colours = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 3])
    path = tmp_path / "x.tif"
    tables = (colours * factor).astype(np.uint16)
    write(path, GREY, photometric="palette", colormap=tables)
    expected = np.moveaxis(colours[:, GREY], 0, -1)
    np.testing.assert_array_equal(read_image(path, AUTO), expected)


def test_reduced_pages_are_no_pages(tmp_path):
    pyramid = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(pyramid) as file:
        options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
        file.write(GREY[::4, ::4], subfiletype=1, **options)
        file.write(GREY, subifds=1, **options)
        file.write(GREY[::2, ::2], subfiletype=1, **options)
        file.write(GREY[::2, ::2], subfiletype=1, **options)
    assert count_frames(pyramid) == 1
    np.testing.assert_array_equal(read_image(pyramid, AUTO), GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_oriented_tiff_is_shown_as_an_oriented_png(tmp_path, orientation):
    write(tmp_path / "x.tif", GREY, extratags=[(ORIENTATION, 3, 1, orientation, True)])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(GREY).save(tmp_path / "x.png", exif=exif)
    pixels = read_image(tmp_path / "x.tif", AUTO)
    np.testing.assert_array_equal(pixels, read_image(tmp_path / "x.png", AUTO))
    assert read_size(tmp_path / "x.tif") == pixels.shape


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "jpeg"])
def test_a_tiff_cut_short_is_an_error(tmp_path, compression):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    path = write(tmp_path / "x.tif", noise, compression=compression, tile=(32, 32))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="cut short"):
        read_image(path, AUTO)


def test_a_tiff_of_many_channels_is_refused(tmp_path):
    path = write(tmp_path / "x.tif", np.dstack([GREY] * 5), planarconfig="contig")
    with pytest.raises(UserError, match="has 5 channels; save it as grey or RGB"):
        read_image(path, AUTO)


def test_tiff_colours_multiplied_by_alpha_are_divided_again(tmp_path):
    half = np.full_like(GREY, 128)
    values = np.dstack([RGB // 2, half])
    path = write(tmp_path / "x.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(read_image(path, AUTO).astype(int) - RGB).max() <= 3


def png(path: Path, values: NDArray[Any], **options: Any) -> Path:
    path.write_bytes(imagecodecs.png_encode(values, **options))
    return path


def test_png_of_16_bits_with_alpha_is_shown_as_without(tmp_path):
    deep = RAMP.astype(np.uint16)
    plain = png(tmp_path / "plain.png", deep)
    clear = png(tmp_path / "clear.png", np.dstack([deep, np.full_like(deep, 65535)]))
    np.testing.assert_array_equal(read_image(clear, AUTO), read_image(plain, AUTO))
    np.testing.assert_array_equal(read_image(clear, AUTO), stretched(deep))
    assert read_size(clear) == deep.shape
    clear.write_bytes(clear.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        read_image(clear, AUTO)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_shallow_palettes_with_transparency(tmp_path, bits):
    indices = (np.arange(64).reshape(8, 8) % 2**bits).astype(np.uint8)
    colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    image = Image.fromarray(indices).copy()
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "x.png", bits=bits, transparency=bytes([0, 90]))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", AUTO), colours[indices])


def test_the_first_picture_of_a_camera_file(tmp_path):
    image, preview = Image.fromarray(GREY), Image.fromarray(GREY[::2, ::2])
    image.save(tmp_path / "plain.jpg", quality=95)
    image.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[preview], quality=95)
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.jpg", AUTO), read_image(tmp_path / "plain.jpg", AUTO)
    )


def test_cmyk_jpeg_is_shown_as_a_viewer_shows_it(tmp_path):
    colour = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "x.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "x.jpg", AUTO).astype(int) - colour).max() < 8


ERRORS = {
    ValueError("raised by all decoders:\n  first: no\n  second: no"):
        "raised by all decoders: first: no second: no",
    PermissionError(13, "Permission denied"): "Permission denied",
    AttributeError("'FileMetaDataset' object has no attribute 'x'"): "its header is damaged",
    TypeError("'>' not supported between instances"): "its header is damaged",
    IndexError("tuple index out of range"): "its header is damaged",
    ZeroDivisionError("division by zero"): "its header is damaged",
}  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_error_is_given_whole_and_a_surprise_is_a_damaged_header(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    Image.fromarray(GREY).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UserError, match=rf"x\.png: .*\({ERRORS[error]}\)"):
        read_image(tmp_path / "x.png", AUTO)


def test_a_tiff_whose_channels_differ_in_depth_is_refused(tmp_path):
    path = write(tmp_path / "x.tif", RGB, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags["BitsPerSample"].overwrite((5, 6, 5))
    with pytest.raises(UserError, match=r"different depths|damaged"):
        read_image(path, AUTO)


def test_a_warning_of_the_library_is_part_of_the_reason(tmp_path, capsys):
    file = tmp_path / "cut.jpg"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0"
    noise = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(file, exif=exif)
    file.write_bytes(file.read_bytes()[:-200])
    # pytest takes warnings for itself; afterwards it puts back what was there.
    keep_warnings()
    with pytest.raises(UserError, match=r"truncated.*; Corrupt EXIF data"):
        read_image(file, IntensityWindow())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [{}, {"imagej": True}])
def test_a_stack_behind_one_header_is_no_single_picture(tmp_path, options):
    file = tmp_path / "stack.tif"
    stack = np.arange(5 * 40 * 56, dtype=np.uint8).reshape(5, 40, 56)
    tifffile.imwrite(file, stack, photometric="minisblack", truncate=True, **options)
    with pytest.raises(UserError, match="several images behind one header; save each as a"):
        read_image(file, IntensityWindow())
