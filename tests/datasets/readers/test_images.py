"""Every kind of picture file: the right pixels, or one line that names the file."""

import io
import logging
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from datasets.readers.image import count_frames, read_image, read_mask, read_size
from tests.medical_files import stretched, windowed
from utils.errors import UserError
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
RGB = RNG.integers(0, 256, (5, 8, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (5, 8), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 8), dtype=np.uint16)
BITS = RNG.integers(0, 2, (5, 8)).astype(bool)
# Four colours, the third transparent.
PALETTE = [10, 20, 30, 200, 100, 50, 0, 0, 0, 255, 255, 255]
INDICES = RNG.integers(0, 4, (5, 8), dtype=np.uint8)
COLOURS = np.array(PALETTE, np.uint8).reshape(4, 3)[INDICES]


def save(array, mode=None, **options):
    def write(path):
        image = Image.fromarray(array)
        image = image if mode is None else image.convert(mode)
        image.save(path, **options)

    return write


def save_palette(**options):
    def write(path):
        image = Image.fromarray(INDICES).copy()
        image.putpalette(PALETTE)
        image.save(path, **options)

    return write


def save_turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(path, exif=exif)


def with_alpha(array):
    return np.dstack([array, ALPHA])


CMYK = Image.fromarray(np.dstack([GREY, 255 - GREY, GREY // 2, GREY // 4]), "CMYK")
READABLE = {
    "grey.png": (save(GREY), GREY),
    "grey.PNG": (save(GREY), GREY),
    "grey.bmp": (save(GREY), GREY),
    "grey.TIFF": (save(GREY), GREY),
    "rgb.png": (save(RGB), RGB),
    "rgb.tif": (save(RGB), RGB),
    "rgba.png": (save(with_alpha(RGB)), RGB),
    "la.png": (save(with_alpha(GREY)), GREY),
    "bits.png": (save(BITS), BITS.astype(np.uint8) * 255),
    "palette.png": (save_palette(), COLOURS),
    "palette-one-clear.png": (save_palette(transparency=2), COLOURS),
    "palette-some-clear.png": (save_palette(transparency=bytes([255, 90, 0, 255])), COLOURS),
    "still-gif-named.png": (save_palette(format="GIF"), COLOURS),
    "jpeg-named.png": (save(np.full((5, 8), 77, np.uint8), format="JPEG"), np.full((5, 8), 77)),
    "deep.png": (save(DEEP), stretched(DEEP)),
    "constant-deep.png": (save(np.full((5, 8), 900, np.uint16)), np.zeros((5, 8))),
    "one.png": (save(GREY[:1, :1]), GREY[:1, :1]),
    "turned.png": (save_turned, np.rot90(GREY, -1)),
    "Lungenröntgen 肺 1.png": (save(GREY), GREY),
    "two\nlines.png": (save(GREY), GREY),
    "n" * 240 + ".png": (save(GREY), GREY),
    "cmyk.tif": (lambda path: CMYK.save(path), np.asarray(CMYK.convert("RGB"))),
}


@pytest.mark.parametrize("name", READABLE)
def test_readable(tmp_path, name):
    write, expected = READABLE[name]
    path = tmp_path / name
    write(path)
    with warnings.catch_warnings(action="error"):
        pixels = read_image(path, AUTO)
        assert read_size(path) == pixels.shape[:2]
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


def chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_of(width, height, data=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def write_cut(format_name, share):
    def write(path):
        noise = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(path, format=format_name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write


def write_animation(format_name):
    def write(path):
        frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
        frames[0].save(path, format=format_name, save_all=True, append_images=frames[1:])

    return write


def write_loop(path):
    path.symlink_to(path)


def containing(content):
    return lambda path: path.write_bytes(content)


def write_lost_page(path):
    """A next page that lies behind the end of the file."""
    tifffile.imwrite(path, GREY, photometric="minisblack", metadata=None)
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[end : end + 4] = (10**8).to_bytes(4, "little")
    path.write_bytes(content)


UNREADABLE = {
    "lost-page.tif": (write_lost_page, "pages are missing"),
    "cut.png": (write_cut("PNG", 0.5), "cannot be read"),
    "cut.jpg": (write_cut("JPEG", 0.5), "cannot be read"),
    "cut.bmp": (write_cut("BMP", 0.5), "cannot be read"),
    "cut.tif": (write_cut("TIFF", 0.5), "cannot be read"),
    "header-only.png": (write_cut("PNG", 0.005), "cannot be read"),
    "nothing.png": (containing(b""), "cannot be read"),
    "nothing.jpg": (containing(b""), "cannot be read"),
    "text.png": (containing(b"no image"), "cannot be read"),
    "ifd.tif": (containing(b"II*\0\xff\xff\xff\x7f"), "cannot be read"),
    "postscript.png": (
        containing(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "cannot be read",
    ),
    "bomb.png": (containing(png_of(20_000, 20_000)), "400000000 pixels"),
    "large.png": (containing(png_of(10_001, 10_000)), "10001 × 10000 pixels"),
    "no-pixels.png": (containing(png_of(0, 4)), "large|empty|cannot be read"),
    "apng.png": (write_animation("PNG"), "has 2 frames"),
    "gif-named.png": (write_animation("GIF"), "has 2 frames"),
    "nan.tif": (save(np.full((3, 3), np.nan, np.float32)), "NaN"),
    "inf.tif": (save(np.full((3, 3), np.inf, np.float32)), "infinite"),
    "loop.png": (write_loop, "symbolic links"),
    "missing.png": (lambda path: None, "no such file"),
    "folder.png": (Path.mkdir, "directory"),
    "two\nlines.png": (containing(b"no image"), "cannot be read"),
    "red \x1b[31m.png": (containing(b"no image"), "cannot be read"),
}


@pytest.fixture
def terminal():
    """What the root logger's handlers, which write to the terminal, get to see."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


PYTHON_WORDS = ("<_io", "<tifffile", "object at", "BufferedReader")


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.filterwarnings("ignore")
def test_unreadable(tmp_path, name, capfd, terminal):
    write, reason = UNREADABLE[name]
    path = tmp_path / name
    write(path)
    shown = name.replace("\n", "\\n").replace("\x1b", "\\x1b")
    with pytest.raises(UserError, match=reason) as caught:
        read_image(path, AUTO)
    assert str(caught.value).startswith(f"{tmp_path}/{shown}: ")
    assert str(caught.value).isprintable()
    assert not any(word in str(caught.value) for word in PYTHON_WORDS)
    assert capfd.readouterr() == ("", "")
    assert terminal.getvalue() == ""


@given(content=st.binary(max_size=300), name=st.sampled_from(["x.png", "x.tif", "x.jpg", "x.bmp"]))
def test_any_bytes_give_pixels_or_an_error_that_names_the_file(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("bytes") / name
    start = {"x.png": b"\x89PNG\r\n\x1a\n", "x.tif": b"II*\0", "x.jpg": b"\xff\xd8", "x.bmp": b"BM"}
    path.write_bytes(start[name] + content)
    try:
        outcome = str(read_image(path, AUTO).dtype)
    except UserError as error:
        outcome = str(error)
    assert outcome == "uint8" or name in outcome


def test_pages_of_a_tiff_are_frames(tmp_path):
    path = tmp_path / "stack.tif"
    pages = [GREY, GREY[:3], RGB]
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=rest)
    assert count_frames(path) == 3
    for frame, page in enumerate(pages):
        np.testing.assert_array_equal(read_image(path, AUTO, frame), page)
        np.testing.assert_array_equal(
            read_mask(path, frame), (page > 0).reshape(*page.shape[:2], -1).any(2)
        )
        assert read_size(path, frame) == page.shape[:2]
    with pytest.raises(UserError, match=r"stack\.tif: has 3 frames"):
        read_image(path, AUTO)
    with pytest.raises(UserError, match=r"stack\.tif: has no frame 3"):
        read_image(path, AUTO, 3)
    # Files of one picture are counted without a look.
    assert count_frames(tmp_path / "missing.png") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ()),
        (" AUTO ", ()),
        ("percentiles 1,99.5", ("percentiles", 1, 99.5)),
        ("Percentiles 0, 100", ("percentiles", 0, 100)),
        ("-160,240", ("range", -160, 240)),
        ("0.5 , 1e3", ("range", 0.5, 1000)),
    ],
)
def test_a_window_is_parsed(text, expected):
    assert IntensityWindow.parse(text) == IntensityWindow(*expected)


NO_WINDOWS = ["", "automatic", "1", "1,2,3", "2,1", "1,1", "a,b", "nan,1", "0,inf"]
NO_PERCENTILES = ["percentiles" + text for text in ("", " -1,50", " 1,101", " 9,1")]


@pytest.mark.parametrize("text", NO_WINDOWS + NO_PERCENTILES)
def test_what_is_no_window(text):
    with pytest.raises(ValueError, match=r"could not|must be|lie from|unpack"):
        IntensityWindow.parse(text)


@given(values=arrays(np.int16, (4, 5)), low=st.integers(-2000, 2000), width=st.integers(1, 4000))
def test_a_range_is_linear_between_its_ends(values, low, width):
    pixels = IntensityWindow("range", low, low + width).apply(values)
    for value, pixel in zip(values.flat, pixels.flat, strict=True):
        share = min(max((int(value) - low) / width, 0), 1)
        assert abs(pixel - share * 255) <= 0.5 + 1e-9


def test_a_window_applies_to_8_bits_too_when_it_is_asked_for(tmp_path):
    save(GREY)(tmp_path / "x.png")
    pixels = read_image(tmp_path / "x.png", IntensityWindow.parse("50,150"))
    np.testing.assert_array_equal(pixels, windowed(GREY.astype(float), 50, 150))
