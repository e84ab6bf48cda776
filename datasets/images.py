"""Image files to 8-bit grey or RGB arrays, and mask files to booleans."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasets.intensity import IntensityWindow
from utils.errors import UserError

MAX_PIXELS = 100_000_000
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_GREY_MODES = ("1", "L", "LA")


def read_image(path: Path, window: IntensityWindow) -> NDArray[np.uint8]:
    """An image file as (H, W) grey or (H, W, 3) RGB, 8 bits.

    Palettes, CMYK and alpha are converted (alpha is dropped), EXIF rotation is applied, and
    intensities of more than 8 bits go through ``window``.

    Raises:
        UserError: The file is missing, corrupt, empty, animated, or too large; names it.
    """
    with _opened(path) as image:
        try:
            return _pixels(ImageOps.exif_transpose(image), window)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise _unreadable(path, error) from error


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask file as (H, W): whatever is above 0 in any channel is anomalous.

    BMAD's masks hold several grey levels ({0, 58, 122, 255} in its brain set).

    Raises:
        UserError: As for :func:`read_image`.
    """
    with _opened(path) as image:
        try:
            turned = ImageOps.exif_transpose(image)
            # A palette's indices mean nothing; alpha says nothing about the region.
            values = np.asarray(turned.convert("RGB") if turned.mode == "P" else turned)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise _unreadable(path, error) from error
        if turned.mode in ("LA", "RGBA"):
            values = values[..., :-1]
        marked = np.asarray(values > 0)
        return np.asarray(marked.any(axis=2)) if marked.ndim == 3 else marked


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) as :func:`read_image` gives it, from the file's header alone.

    Raises:
        UserError: The header cannot be read; names the file.
    """
    with _opened(path) as image:
        width, height = image.size
        quarter_turn = image.getexif().get(0x0112, 1) >= 5
        return (width, height) if quarter_turn else (height, width)


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too large to decode safely ({error})") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error
    width, height = image.size
    frames = getattr(image, "n_frames", 1)
    if width * height > MAX_PIXELS:
        image.close()
        raise UserError(f"{path}: {width} × {height} pixels are over the limit of {MAX_PIXELS}")
    if width * height == 0 or frames > 1:
        image.close()
        found = f"holds {frames} frames; save them as files of their own" if frames > 1 else "empty"
        raise UserError(f"{path}: {found}")
    return image


def _pixels(image: Image.Image, window: IntensityWindow) -> NDArray[np.uint8]:
    if image.mode in _DEEP_MODES:
        return window.apply(np.asarray(image))
    return window.apply(np.asarray(image.convert("L" if image.mode in _GREY_MODES else "RGB")))


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: cannot be read as an image ({reason}); replace or remove the file")
