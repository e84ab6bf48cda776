"""Pictures of cases: maps as colours, outlines of regions, overlays, small files for a report."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from engine.evaluate.calibration_file import ColourScale
from engine.evaluate.cases import Case
from utils.plots import COLOUR_MAP, colour_mapping, save_figure

Pixel = TypeVar("Pixel", np.uint8, np.float32)

# A mask is outlined in cyan, which the colour map lacks; pixels above a threshold in white.
MASK_COLOUR, THRESHOLD_COLOUR = "#7df9ff", "#ffffff"
OPACITY = 0.75
# Of a picture in cases.png; the rest is the gap to the next one.
_CELL = 0.96

# 200 images of three pictures each stay below 20 MB, in base64, whatever they show; the smooth
# map of a baseline adds little.
_PICTURE_BYTES = 22_000
_QUALITIES = (88, 75, 60, 40)
# Below it WebP makes steps of a smooth map: 19 at 70, 6 at 20.
_ALPHA_QUALITY = 85
_PICTURE_SIDE = 320
_PATH_LENGTH = 4000
_DATA_URI = "data:image/webp;base64,"


def picture(
    pixels: NDArray[np.uint8], side: int = _PICTURE_SIDE, most_bytes: int = _PICTURE_BYTES
) -> str:
    """A grey, coloured or, with opacity, (H, W, 4) image as a data URI.

    It is a WebP of the best quality that fits.

    Args:
        pixels: (H, W), (H, W, 3) or (H, W, 4).
        side: Pixels along each side at most; fewer where no quality fits.
        most_bytes: How large the WebP may be.
    """
    image = Image.fromarray(pixels)
    while True:
        image.thumbnail((side, side))
        for quality in _QUALITIES:
            content = io.BytesIO()
            image.save(content, "WEBP", quality=quality, alpha_quality=_ALPHA_QUALITY, method=2)
            if content.tell() <= most_bytes:
                return _DATA_URI + base64.b64encode(content.getvalue()).decode()
        side //= 2


def map_layer(anomaly_map: NDArray[np.float32], colours: ColourScale) -> NDArray[np.uint8]:
    """An (H, W) map as an (H, W, 4) layer to lay over black or over its image.

    Over black it shows the colours of the colour map; the darker these are, the more of an image
    shines through. It is transparent at the scale's beginning and below.
    """
    share = ((anomaly_map - colours.low) / (colours.high - colours.low)).clip(0, 1)
    colour = mpl.colormaps[COLOUR_MAP](share)[..., :3]
    opacity = colour.max(axis=-1, keepdims=True)
    layer = np.concatenate([colour / opacity, opacity * (share[..., None] > 0)], axis=-1)
    return (255 * layer).round().astype(np.uint8)


def shrunk(pixels: NDArray[Pixel], side: int) -> NDArray[Pixel]:
    """(H, W, …), its longer side at most ``side``."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), pixels.dtype)


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    colours: ColourScale,
    threshold: float | None = None,
) -> NDArray[np.uint8]:
    """An anomaly map on its (H, W, 3) image.

    Args:
        image: (H, W, 3).
        anomaly_map: (H, W).
        colours: The scale of the map.
        threshold: Pixels with this score or above are outlined; none without one.
    """
    layer = map_layer(anomaly_map, colours).astype(np.float64)
    opacity = OPACITY * layer[..., 3:] / 255
    blended = (image * (1 - opacity) + layer[..., :3] * opacity).round()
    shown = blended.astype(np.uint8, order="C")  # OpenCV draws on nothing else
    if threshold is not None:
        lines = outlines(anomaly_map >= threshold)
        cv2.drawContours(shown, lines, -1, (0, 0, 0), 3)
        cv2.drawContours(shown, lines, -1, (255, 255, 255), 1)
    return shown


def outlines(region: NDArray[np.bool_]) -> Sequence[NDArray[Any]]:
    """Closed lines around an (H, W) region and its holes: (N, 1, 2) pixels, x before y."""
    return cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]


def outline_path(region: NDArray[np.bool_], longest: int = _PATH_LENGTH) -> str:
    """The SVG path around an (H, W) region and its holes; "" if it is empty.

    Very many small regions are outlined coarsely, in ``longest`` characters, so that the page
    stays small.
    """
    scale = 1
    while True:
        lines = [((line[:, 0] + 0.5) * scale).tolist() for line in outlines(region)]
        path = "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in line) + "Z" for line in lines)
        if len(path) <= longest:
            return path
        # (H, W) -> (H / 2, W / 2): a cell belongs to the region where any of its pixels does.
        region = cv2.dilate(region.astype(np.uint8), np.ones((2, 2)), anchor=(0, 0))[::2, ::2] > 0
        scale *= 2


def plot_cases(
    cases: Mapping[str, Sequence[Case]],
    colours: ColourScale,
    path: Path,
    *,
    pixel_threshold: float | None = None,
    baseline_colours: ColourScale | None = None,
) -> None:
    """Images, reconstructions and anomaly maps, by themselves and on the image with outlines.

    Args:
        cases: At least one, by what they are examples of; their labels are known.
        colours: The scale of all maps.
        path: The PNG file.
        pixel_threshold: Pixels with this score or above are outlined; none without one.
        baseline_colours: The scale of the baseline's maps, where the cases have them.
    """
    rows = [(kind, case) for kind, each in cases.items() for case in each]
    titles = ["image", "reconstruction", "anomaly map", "map on image"]
    titles += ["baseline's map,\nown scale"] if baseline_colours else []
    figure = Figure(figsize=(1.6 * len(titles) + 2.2, 1.4 * len(rows) + 0.7), layout="constrained")
    # One pair of axes for all: a hundred take seconds to lay out.
    axes = figure.subplots()
    mapping, names = colour_mapping(colours.low, colours.high), []
    for number, (kind, case) in enumerate(rows):
        truth = "anomalous" if case.label else "normal"
        names.append(f"{kind}: {truth}\n{Path(case.name).stem[-24:]}\nscore {case.score:.4g}")
        pictures = [
            case.image,
            case.reconstruction,
            mapping.to_rgba(case.anomaly_map),
            overlay(case.image, case.anomaly_map, colours),
        ]
        if baseline_colours and case.baseline_map is not None:
            own = colour_mapping(baseline_colours.low, baseline_colours.high)
            pictures.append(own.to_rgba(case.baseline_map))
        for column, each in enumerate(pictures):
            axes.imshow(each, extent=(column, column + _CELL, number + _CELL, number))
        if case.mask is not None:
            _outline(axes, (3, number), case.mask, MASK_COLOUR, "-")
        if pixel_threshold is not None:
            above = case.anomaly_map >= pixel_threshold
            _outline(axes, (3, number), above, THRESHOLD_COLOUR, ":")
    axes.set(xlim=(0, len(titles)), ylim=(len(rows), 0), frame_on=False)
    axes.set_xticks([each + _CELL / 2 for each in range(len(titles))], titles, fontsize=9)
    axes.set_yticks([each + _CELL / 2 for each in range(len(rows))], names, fontsize=7)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    figure.colorbar(mapping, ax=axes, aspect=90, extend="max", label="anomaly score of a pixel")
    save_figure(figure, path)


def _outline(
    axes: Axes, corner: tuple[int, int], region: NDArray[np.bool_], colour: str, style: str
) -> None:
    halo = [withStroke(linewidth=2.4, foreground="black")]
    for line in outlines(region):
        # From (x, y) of pixels to the cell that the picture fills.
        points = corner + (line[:, 0] + 0.5) * _CELL / region.shape[::-1]
        axes.add_patch(Polygon(points, fill=False, ec=colour, ls=style, path_effects=halo))
