"""PNG, JPEG, BMP and TIFF files: 8-bit pictures, grey ones of 16 or 32 bits, pages of a TIFF."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasets.raw import RawImage

# Told by content, whatever the name says; the library knows formats that start other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_GREY_MODES = ("1", "L", "LA")
_ALPHA_MODES = ("LA", "PA", "RGBA")
_ORIENTATION_TAG = 0x0112

# Sizes are checked by the caller. Here and not around each call, where threads would disturb one
# another.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class PictureFile:
    """A picture file that Pillow reads.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        # Given a name, Pillow 13 maps an uncompressed TIFF into memory, and garbles one that is to
        # be turned by a quarter.
        self._file = path.open("rb")
        try:
            self._image = Image.open(self._file, formats=_FORMATS)
        except BaseException:
            self._file.close()
            raise

    @property
    def num_frames(self) -> int:
        """Pages of a TIFF, frames of an animation, else 1."""
        return int(getattr(self._image, "n_frames", 1))

    @property
    def has_alpha(self) -> bool:
        """Whether there is transparency, which reading drops."""
        return self._image.mode in _ALPHA_MODES or "transparency" in self._image.info

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width), turned as the picture's EXIF orientation says."""
        self._image.seek(frame)
        width, height = self._image.size
        # Of a TIFF, Pillow gives the turned size itself.
        turned = self._image.format != "TIFF" and self._orientation() >= 5
        return (width, height) if turned else (height, width)

    def _orientation(self) -> int:
        # Of a PNG that does not say so at its beginning, asking would decode the pixels.
        if self._image.format == "PNG" and "exif" not in self._image.info:
            return 1
        return int(self._image.getexif().get(_ORIENTATION_TAG, 1))

    def read(self, frame: int) -> RawImage:
        """Intensities: (H, W) as stored, or (H, W, 3) of 8 bits; alpha is dropped."""
        image = self._turned(frame)
        if image.mode in _DEEP_MODES:
            return RawImage(np.asarray(image))
        return RawImage(
            np.asarray(image.convert("L") if image.mode in _GREY_MODES else _rgb(image))
        )

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Stored values, (H, W) or (H, W, 3); palettes, whose indices mean nothing, as RGB."""
        image = self._turned(frame)
        if image.mode in _DEEP_MODES or image.mode in ("1", "L"):
            return np.asarray(image)
        return np.asarray(image.convert("L") if image.mode == "LA" else _rgb(image))

    def _turned(self, frame: int) -> Image.Image:
        self._image.seek(frame)
        return ImageOps.exif_transpose(self._image)

    def close(self) -> None:
        """Let go of the file."""
        self._image.close()
        self._file.close()


def _rgb(image: Image.Image) -> Image.Image:
    # Straight to RGB, Pillow complains about palettes with several transparent entries.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
