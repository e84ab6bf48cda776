"""TIFF files: grey, colour and palettes of every depth, layout and compression."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tifffile import PHOTOMETRIC, PLANARCONFIG

from datasets.readers.base import ImageFile, RawImage, mask_of, turned
from datasets.readers.library_logs import kept_messages

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Bits of NewSubfileType: a smaller copy of another page, a mask of its transparency.
_NO_PAGE = 1 | 4
_COLOURS: dict[int, int] = {
    PHOTOMETRIC.MINISWHITE: 1,
    PHOTOMETRIC.MINISBLACK: 1,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.SEPARATED: 4,
}
_GREY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK)
_JPEG = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)
_PREMULTIPLIED, _ALPHA = 1, 2


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF or BigTIFF, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


class TiffFile(ImageFile):
    """A TIFF file; its full pages are frames, but not reduced copies of them and their masks."""

    def __init__(self, path: Path) -> None:
        self._pages = _full_pages(path, path.stat().st_mtime_ns)
        self._file = tifffile.TiffFile(path)
        self.num_frames = len(self._pages)

    @property
    def has_alpha(self) -> bool:
        """Whether there is transparency, which reading drops."""
        return _has_alpha(self._page(0))

    @property
    def is_deep(self) -> bool:
        """Whether it is grey of more than 8 bits."""
        page = self._page(0)
        bits = page.bitspersample
        return page.photometric in _GREY and isinstance(bits, int) and bits > 8

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width), turned as the page's orientation says."""
        page = self._page(frame)
        size = page.imagelength, page.imagewidth
        return size[::-1] if _orientation(page) >= 5 else size

    def read(self, frame: int) -> RawImage:
        """Intensities: (H, W) or (H, W, 3), of 8 bits where colours are unsigned integers."""
        page = self._page(frame)
        values = self._samples(page)
        if page.photometric not in _GREY:
            return RawImage(_rgb(page, values))
        grey = values[..., 0]
        return RawImage(
            _to_8_bits(page, grey) if page.bitspersample < 8 else grey,
            inverted=page.photometric == PHOTOMETRIC.MINISWHITE,
        )

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Stored values, (H, W) or (H, W, 3); palettes, whose indices mean nothing, as RGB."""
        page = self._page(frame)
        values = self._samples(page)
        if page.photometric in _GREY:
            colour = values[..., 0]
        elif page.photometric == PHOTOMETRIC.RGB:
            colour = values[..., :3]  # at its full depth: a mark may be as low as 1
        else:
            colour = _rgb(page, values)
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            if not _is_unsigned(colour):
                raise ValueError("a mask in which zero is white must use unsigned integers")
            colour = 2**page.bitspersample - 1 - colour
        alpha = values[..., _COLOURS[page.photometric]] if _has_alpha(page) else None
        return mask_of(colour, alpha)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _page(self, frame: int) -> tifffile.TiffPage:
        page = self._file.pages[self._pages[frame]]
        assert isinstance(page, tifffile.TiffPage)
        return page

    def _samples(self, page: tifffile.TiffPage) -> NDArray[Any]:
        """(H, W, C) as stored, turned; checked first, since a header may promise anything."""
        if page.photometric not in _COLOURS:
            raise ValueError("is not grey, RGB or palette")
        if not isinstance(page.bitspersample, int):
            raise ValueError("its channels have different depths")
        spare = page.samplesperpixel - _COLOURS[page.photometric]
        # A second channel of grey that is not declared as transparency may be anything.
        unknown = page.photometric in _GREY and spare and not _has_alpha(page)
        if spare not in (0, 1) or unknown:
            raise ValueError(f"has {page.samplesperpixel} channels; save it as grey or RGB")
        end = self._file.filehandle.size
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        whole = all(size > 0 and start + size <= end for start, size in parts)
        if len(parts) < math.prod(page.chunked) or not whole:
            raise ValueError("cut short, or parts of the picture are missing")
        values = page.asarray(squeeze=False, maxworkers=1)  # (planes, depth, H, W, C)
        if values.shape[1] != 1 or values.dtype.kind not in "buif":
            raise ValueError("its pixels are not real numbers")
        planar = page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
        values = np.moveaxis(values[:, 0, ..., 0], 0, -1) if planar else values[0, 0]
        return turned(values, _orientation(page))


@lru_cache(maxsize=8)
def _full_pages(path: Path, changed: int) -> tuple[int, ...]:
    """Positions of the full pages; cached, since each slice of a stack opens the file again."""
    with kept_messages() as messages, tifffile.TiffFile(path) as file:
        pages = range(len(file.pages))
        if not pages or any("TiffPages" in message for message in messages):
            raise ValueError("pages are missing or cut short")
        if len(pages) == 1 and file.series[0].size > file.pages.first.size:
            raise ValueError("has several images behind one header; save each as a separate file")
        kinds = [getattr(file.pages[each], "subfiletype", 0) for each in pages]
        return tuple(each for each in pages if not kinds[each] & _NO_PAGE) or tuple(pages)


def _orientation(page: tifffile.TiffPage) -> int:
    return int(page.tags.valueof("Orientation", 1))


def _has_alpha(page: tifffile.TiffPage) -> bool:
    return any(extra in (_PREMULTIPLIED, _ALPHA) for extra in page.extrasamples)


def _is_unsigned(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "bu"


def _to_8_bits(page: tifffile.TiffPage, values: NDArray[Any]) -> NDArray[Any]:
    """Unsigned integers of any depth; others stay, for the intensity window."""
    if not _is_unsigned(values) or page.bitspersample == 8:
        return values
    if page.bitspersample > 8:
        return (values >> (page.bitspersample - 8)).astype(np.uint8)
    return (values.astype(np.uint16) * 255 // (2**page.bitspersample - 1)).astype(np.uint8)


def _palette(page: tifffile.TiffPage, values: NDArray[Any]) -> NDArray[np.uint8]:
    colours = np.asarray(page.colormap)  # (3, 2^bits)
    # Of 16 bits by the standard; some programs write 8.
    colours = colours >> 8 if colours.max() > 255 else colours
    return np.moveaxis(colours[:, values[..., 0]], 0, -1).astype(np.uint8)


def _rgb(page: tifffile.TiffPage, values: NDArray[Any]) -> NDArray[Any]:
    """8-bit RGB; signed and floating colours keep their values."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        return _palette(page, values)
    pixels = _to_8_bits(page, values)
    mode = None
    if page.photometric == PHOTOMETRIC.SEPARATED:
        mode, pixels = "CMYK", pixels[..., :4]
    elif page.photometric == PHOTOMETRIC.YCBCR and page.compression not in _JPEG:
        mode, pixels = "YCbCr", pixels[..., :3]
    elif _PREMULTIPLIED in page.extrasamples:
        mode = "RGBa"
    if mode is None or pixels.dtype != np.uint8:
        return pixels[..., :3]
    image = Image.fromarray(np.ascontiguousarray(pixels), mode)
    # Directly to RGB, the colours would stay multiplied.
    return np.asarray(image.convert("RGBA" if mode == "RGBa" else "RGB"))[..., :3]
