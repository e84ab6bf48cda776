"""Volumes as a report shows them: which of their slices, and these as small pictures."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.calibration_file import ColourScale
from engine.report.pictures import map_layer, outline_path, picture, shrunk

SHOWN_VOLUMES, SHOWN_SLICES = 10, 64
"""At most so many volumes have pictures, and at most so many slices of each."""

PICTURE_SIDE = 256
"""Pixels of a slice's longer side at most."""

# 10 volumes of 64 slices stay below 14 MB, in base64, whatever they show; heads take about 6.
_IMAGE_BYTES, _MAP_BYTES = 7_000, 7_000
_PATH_LENGTH = 1_200


@dataclass(frozen=True)
class SliceView:
    """One slice to look at."""

    number: int  # which one, from 0
    size: tuple[int, int]  # width and height, in pixels, that the paths are drawn in
    image: str  # a data URI
    map: str  # a data URI, transparent where scores are low
    # SVG path around the pixels above the pixel threshold, None without one.
    threshold_path: str | None = None
    mask_path: str | None = None  # the same around the mask, None if there are no masks


@dataclass(frozen=True)
class VolumePictures:
    """The pictures of a volume."""

    slices: tuple[SliceView, ...]  # those that are shown, at least one, in their order
    scores: Mapping[int, float]  # slice → score, of all that count
    num_slices: int  # how many it has, those that do not count among them
    extent: tuple[float, float]  # (height, width) of a slice in mm


@dataclass(frozen=True)
class ScoredVolume:
    """A volume of a report."""

    name: str  # its path
    score: float
    predicted: int | None  # 1 if it is called anomalous, 0 if normal, None if nothing decides
    label: int | None = None  # 0 normal, 1 anomalous, None if unknown
    pictures: VolumePictures | None = None  # None if it is only listed


def evenly_chosen(count: int) -> list[int]:
    """Positions of the slices to show, of ``count``; there is room for the worst one besides."""
    if count <= SHOWN_SLICES:
        return list(range(count))
    return np.linspace(0, count - 1, SHOWN_SLICES - 1).round().astype(int).tolist()


def slice_view(
    number: int,
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.float32],
    colours: ColourScale,
    pixel_threshold: float | None,
    mask: NDArray[np.bool_] | None = None,
) -> SliceView:
    """A slice as pictures.

    Args:
        number: Which one, from 0.
        image: (H, W) or (H, W, 3).
        anomaly_map: (H, W).
        colours: The scale of the map.
        pixel_threshold: Pixels with this score or above are outlined; none without one.
        mask: (H, W), outlined too.
    """
    image, anomaly_map = shrunk(image, PICTURE_SIDE), shrunk(anomaly_map, PICTURE_SIDE)
    above = None if pixel_threshold is None else anomaly_map >= pixel_threshold
    # A pixel of a shrunk mask is marked where any of its own is.
    marked = None if mask is None else shrunk(mask.astype(np.float32), PICTURE_SIDE) > 0
    return SliceView(
        number,
        size=(image.shape[1], image.shape[0]),
        image=picture(image, PICTURE_SIDE, _IMAGE_BYTES),
        map=picture(map_layer(anomaly_map, colours), PICTURE_SIDE, _MAP_BYTES),
        threshold_path=None if above is None else outline_path(above, _PATH_LENGTH),
        mask_path=None if marked is None else outline_path(marked, _PATH_LENGTH),
    )
