"""One image and its mask, looked at: the facts that a check of a data set is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.folders.samples import Sample, mask_of_another_size
from datasets.readers.image import open_image, read_image, read_mask_values
from utils.errors import UserError
from utils.intensity import IntensityWindow

_LEVELS = 32


@dataclass(frozen=True)
class Observation:
    """What a look at a sample found; small, so that those of a whole set fit into memory.

    Attributes:
        unreadable: Why the image cannot be read, None where it can.
        size: (height, width).
        digest: Of the 8-bit pixels; equal for equal pictures in files of any format.
        constant: Whether all pixels are alike.
        coloured: Whether the channels differ.
        alpha: Whether there is transparency, which reading drops.
        mask: Its mask, None where it has none.
    """

    unreadable: str | None = None
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    constant: bool = False
    coloured: bool = False
    alpha: bool = False
    mask: MaskObservation | None = None


@dataclass(frozen=True)
class MaskObservation:
    """What a look at a mask found.

    Attributes:
        unreadable: Why it cannot be read, None where it can.
        another_size: In what its size differs from the image's, None where it does not.
        marked: Whether anything is above 0.
        full: Whether everything is.
        num_levels: How many values occur, 0 included.
        levels: The lowest of them.
    """

    unreadable: str | None = None
    another_size: str | None = None
    marked: bool = False
    full: bool = False
    num_levels: int = 0
    levels: tuple[float, ...] = ()


def observe(sample: Sample, mask: Path | None) -> Observation:
    """Decode an image and its mask.

    Args:
        sample: The image.
        mask: Its mask's file: of normal images too, whose samples know none.
    """
    try:
        pixels = read_image(
            sample.path, IntensityWindow(), sample.frame, axis=sample.axis, volume=sample.volume
        )
        alpha = _has_alpha(sample.path)
    except UserError as error:
        return Observation(unreadable=str(error))
    grey, coloured = _as_grey(pixels)
    return Observation(
        size=(pixels.shape[0], pixels.shape[1]),
        digest=_digest(grey),
        constant=bool((grey == grey[0, 0]).all()),
        coloured=coloured,
        alpha=alpha,
        mask=None if mask is None else _observe_mask(sample, mask, pixels.shape[:2]),
    )


def _observe_mask(sample: Sample, mask: Path, size: tuple[int, ...]) -> MaskObservation:
    try:
        values = read_mask_values(mask, sample.frame, axis=sample.axis, image=sample.path)
    except UserError as error:
        return MaskObservation(unreadable=str(error))
    another_size = None
    if values.shape[:2] != size:
        marked = Sample(sample.path, sample.label, mask)
        another_size = mask_of_another_size(marked, size, values.shape)
    levels = np.unique(values)
    return MaskObservation(
        another_size=another_size,
        marked=bool(levels[-1] > 0),
        full=bool((values.reshape(*values.shape[:2], -1) > 0).any(axis=2).all()),
        num_levels=len(levels),
        levels=tuple(levels[:_LEVELS].tolist()),
    )


def _has_alpha(path: Path) -> bool:
    with open_image(path) as file:
        return file.has_alpha


def _as_grey(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
    """One channel where all are alike, and whether they are not."""
    if pixels.ndim == 2:
        return pixels, False
    coloured = bool((pixels != pixels[..., :1]).any())
    return pixels if coloured else pixels[..., 0], coloured


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(pixels.tobytes())
    return digest.digest()
