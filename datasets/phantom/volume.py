"""Whole heads with and without a lesion, slice by slice from the skull's base to above the vertex.

A head is an ellipsoid, so that the outlines of its slices shrink towards the poles; what is random
about it changes smoothly from slice to slice. A lesion is a ball.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datasets.phantom.anatomy import draw_anatomy
from datasets.phantom.draw import Image, Phantom, draw_slice, grow_lesion, show_lesion
from datasets.phantom.fields import Field, Normal, log_uniform, pixel_grid

# mm: width of a slice, and height of all slices together.
FIELD_OF_VIEW, STACK_HEIGHT = 218.0, 150.0
# Half a head's height over half its length.
_TALLNESS = 0.9
# Share of the slices that lie below the head's middle: the lowest cut the skull's base.
_BELOW = 0.4
# Share of half a head's height over which the folds change completely.
_FOLDS = 0.2
# Width of a ball's soft outline over its radius.
_SOFTNESS = 0.3


@dataclass(frozen=True)
class Head:
    """A head."""

    slices: Sequence[Phantom]  # from the lowest up
    heights: Field  # of the slices above the head's middle, in units of half the image

    @property
    def image(self) -> Image:
        """(N, H, W)."""
        return np.stack([each.image for each in self.slices])


def draw_head(rng: np.random.Generator, size: int, num_slices: int) -> Head:
    """Draw a head without a lesion."""
    anatomy = draw_anatomy(rng)
    shift = rng.uniform(-0.5, 0.5)
    heights = (np.arange(num_slices) + shift) / num_slices - _BELOW
    heights = heights * STACK_HEIGHT / (FIELD_OF_VIEW / 2)
    seed = int(rng.integers(2**32))
    slices = []
    for height in heights:
        elevation = float(height / (_TALLNESS * anatomy.half_length))
        # Nuclei and ventricles lie around the middle, and end above and below it.
        shown = replace(anatomy, elevation=elevation, height=min(1.25 * abs(elevation), 1.0))
        slices.append(draw_slice(_noise_at(elevation, seed), shown, size, rng.standard_normal))
    return Head(slices, heights)


def _noise_at(elevation: float, seed: int) -> Normal:
    """Normal numbers of a slice, nearly those of its neighbours."""
    lower, share = divmod(elevation / _FOLDS, 1)
    # Seeds are not negative: the lowest slices lie less than 100 places below the middle.
    below, above = (np.random.default_rng([seed, 100 + int(lower) + each]) for each in (0, 1))
    # Their squares add up to 1, and so do the variances.
    weights = math.cos(share * math.pi / 2), math.sin(share * math.pi / 2)

    def normal(shape: tuple[int, ...], **options: Any) -> Field:
        first, second = (each.standard_normal(shape, **options) for each in (below, above))
        return weights[0] * first + weights[1] * second

    return normal


def add_ball(rng: np.random.Generator, head: Head, *, bright: bool) -> tuple[Image, Image]:
    """Put a ball of random place, size and contrast into the brain.

    Args:
        rng: Source of all randomness.
        head: The head; it stays as it is.
        bright: Brighter than its surroundings, or darker.

    Returns:
        The image and its mask, both (N, H, W); the mask is 255 in the lesion and 0 elsewhere.
    """
    x, y = pixel_grid(head.slices[0].signal.shape[0])
    # Room for the whole ball between the lowest slice and the vertex.
    inner = np.flatnonzero((head.heights > -0.3) & (head.heights < 0.45))
    middle = int(rng.choice(inner))
    rows, columns = np.nonzero(head.slices[middle].tissue > 0.8)
    chosen = rng.integers(len(rows))
    x, y = x - x[rows[chosen], columns[chosen]], y - y[rows[chosen], columns[chosen]]
    half_size = log_uniform(rng, 0.14, 0.2)
    contrast = log_uniform(rng, 0.35, 0.5) * (1 if bright else -1)
    images = head.image
    masks = np.zeros_like(images)
    heights = (head.heights - head.heights[middle]) / half_size
    for index in np.flatnonzero(np.abs(heights) < 1 + _SOFTNESS).tolist():
        phantom = head.slices[index]
        distance = np.hypot(np.hypot(x, y) / half_size, heights[index])
        lesion = grow_lesion(phantom, distance, _SOFTNESS, contrast)
        images[index], masks[index] = show_lesion(phantom, *lesion)
    return images, masks
