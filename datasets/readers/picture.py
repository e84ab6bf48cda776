"""PNG, JPEG and BMP files: pictures of 8 bits, grey ones of 16."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasets.readers.base import ImageFile, RawImage, mask_of, turned

# Recognised by content; not all formats of Pillow, since some start other programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
# The last two only occur in pictures in memory: TIFF files have their own reader.
_DEEP_MODES = ("I", "I;16", "I;16B", "F")
# Pillow's name for 16-bit grey with alpha, of which it keeps 8 bits.
_DEEP_WITH_ALPHA = "LA;16B"
_GREY_MODES = ("1", "L", "LA")
_ALPHA_MODES = ("LA", "PA", "RGBA")
_ORIENTATION_TAG = 0x0112


class PictureFile(ImageFile):
    """A picture file that Pillow reads; of an animation each frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._image = Image.open(path, formats=_FORMATS)
        # Cameras write previews behind their picture (MPO).
        camera = self._image.format == "MPO"
        self.num_frames = 1 if camera else int(getattr(self._image, "n_frames", 1))
        # Read now, since loading clears it.
        tiles = self._image.tile
        self._deep_with_alpha = bool(tiles) and tiles[0][3] == _DEEP_WITH_ALPHA

    @property
    def has_alpha(self) -> bool:
        """Whether there is transparency, which reading drops."""
        return self._image.mode in _ALPHA_MODES or "transparency" in self._image.info

    @property
    def is_deep(self) -> bool:
        """Whether it is grey of 16 bits."""
        return self._image.mode in _DEEP_MODES or self._deep_with_alpha

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width), turned as the picture's EXIF orientation says."""
        self._image.seek(frame)
        width, height = self._image.size
        return (width, height) if self._orientation() >= 5 else (height, width)

    def _orientation(self) -> int:
        # If a PNG has no EXIF at its beginning, getexif would decode the pixels to look further.
        if self._image.format == "PNG" and "exif" not in self._image.info:
            return 1
        return int(self._image.getexif().get(_ORIENTATION_TAG, 1))

    def read(self, frame: int) -> RawImage:
        """Intensities: (H, W) as stored, or (H, W, 3) of 8 bits; alpha is dropped."""
        return RawImage(self._colour_and_alpha(frame)[0])

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Stored values, (H, W) or (H, W, 3); palettes, whose indices mean nothing, as RGB."""
        return mask_of(*self._colour_and_alpha(frame))

    def _colour_and_alpha(self, frame: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        self._image.seek(frame)
        if self._deep_with_alpha:
            self._image.load()  # raises if the file is truncated; the other decoder does not
            pixels = imagecodecs.png_decode(self._path.read_bytes())
            pixels = turned(pixels, self._orientation())
            return pixels[..., 0], pixels[..., 1]
        image = ImageOps.exif_transpose(self._image)
        with_alpha = self.has_alpha and image.mode not in _DEEP_MODES
        alpha = np.asarray(image.convert("RGBA"))[..., 3] if with_alpha else None
        return intensities_of(image), alpha

    def close(self) -> None:
        """Close the file."""
        self._image.close()


def intensities_of(image: Image.Image) -> NDArray[Any]:
    """Intensities of an upright picture: (H, W) as stored, or (H, W, 3) of 8 bits, no alpha."""
    if image.mode in _DEEP_MODES:
        return np.asarray(image)
    return np.asarray(image.convert("L") if image.mode in _GREY_MODES else _rgb(image))


def _rgb(image: Image.Image) -> Image.Image:
    # Directly to RGB, Pillow warns of palettes with several transparent entries.
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")
