"""Arrays as text that a browser draws: pictures as PNG, maps as 16-bit numbers."""

from __future__ import annotations

import base64
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", NDArray[np.uint8], NDArray[np.float32])

# Two per screen in width are enough; the files to download keep their own size.
_LONGEST_SIDE = 768


def shrunk(pixels: Array) -> Array:
    """(H, W) or (H, W, C) with at most 768 pixels along its longer side."""
    height, width = pixels.shape[:2]
    scale = _LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), pixels.dtype)


def png(pixels: NDArray[np.uint8]) -> str:
    """(H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA of 8 bits as a data URI."""
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, codes[pixels.shape[2]])
    return "data:image/png;base64," + _text(cv2.imencode(".png", ordered)[1].tobytes())


def numbers(values: NDArray[np.float32], low: float, high: float) -> str:
    """(H, W) values as shares of the way from ``low`` to ``high``, 16 bits each, in base64."""
    shares = ((values - low) / (high - low)).clip(0, 1)
    return _text((shares * 65535).round().astype("<u2").tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
