"""Pictures of a report: small JPEGs, overlays on the colour scale, outlines of masks."""

from __future__ import annotations

import base64
import io

import cv2
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.evaluate.calibration import ColourScale
from utils.plots import COLOUR_MAP

# 200 images of three pictures each stay below 20 MB, in base64, whatever they show.
_PICTURE_BYTES = 22_000
_QUALITIES = (85, 75, 60, 45, 30, 15)
_PICTURE_SIDE = 320
_MASK_PATH_LENGTH = 4000
_OPACITY = 0.75


def picture(pixels: NDArray[np.uint8]) -> str:
    """An (H, W, 3) image as a data URI, shrunk where it is large.

    It is a JPEG of the best quality that fits into ``_PICTURE_BYTES``.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    for quality in _QUALITIES:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality, optimize=True)
        if content.tell() <= _PICTURE_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def overlay(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], colours: ColourScale
) -> NDArray[np.uint8]:
    """An anomaly map on its (H, W, 3) image; transparent at the scale's beginning and below."""
    share = ((anomaly_map - colours.low) / (colours.high - colours.low)).clip(0, 1)[..., None]
    opacity = _OPACITY * np.sqrt(share)
    colour = mpl.colormaps[COLOUR_MAP](share[..., 0])[..., :3] * 255
    return (image * (1 - opacity) + colour * opacity).round().astype(np.uint8)


def mask_path(mask: NDArray[np.bool_]) -> str:
    """The SVG path around an (H, W) mask's regions and holes; "" where it is empty.

    A mask of very many small regions is outlined coarsely, so that the page stays small.
    """
    scale, coarse = 1, mask.astype(np.uint8)
    while True:
        contours, _ = cv2.findContours(coarse, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        path = "".join(_contour_path(contour[:, 0], scale) for contour in contours)
        if len(path) <= _MASK_PATH_LENGTH:
            return path
        padded = np.pad(coarse, [(0, side % 2) for side in coarse.shape])
        scale *= 2
        # (2h, 2w) -> (h, w): a cell is anomalous where any of its pixels is.
        coarse = padded.reshape(len(padded) // 2, 2, -1, 2).max(axis=(1, 3))


def _contour_path(points: NDArray[np.number], scale: int) -> str:
    centres = ((points.astype(float) + 0.5) * scale).tolist()
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in centres) + "Z"


def colour_strip(colours: ColourScale) -> str:
    """A strip of a scale's colours, as a data URI."""
    # The strip is made as the maps are, on a middle grey: it shows the colours as they appear.
    ramp = np.linspace(colours.low, colours.high, 256, dtype=np.float32)[None].repeat(8, axis=0)
    strip = overlay(np.full((8, 256, 3), 110, np.uint8), ramp, colours)
    content = io.BytesIO()
    Image.fromarray(strip).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
