"""Arrays as text that a browser draws: pictures as PNG, maps as 16-bit numbers."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray


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
