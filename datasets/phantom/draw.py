"""Head phantoms with and without lesions: a seeded stand-in where no patient data may be used.

Axial slices that look like FLAIR magnetic resonance images of the head, and lesions with masks;
``datasets.phantom.write`` writes them as files, :mod:`datasets.phantom.volume` draws whole heads.
Lengths are in units of half the image unless said otherwise: the image spans [-1, 1] both ways, x
to the right and y down (the nose is up).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from datasets.phantom.anatomy import Anatomy, draw_anatomy, draw_signal
from datasets.phantom.fields import (
    Field,
    Normal,
    below,
    downsample,
    log_uniform,
    periodic_noise,
    pixel_grid,
    smooth_noise,
)

Image = npt.NDArray[np.uint8]
LesionKind = Literal["bright", "dark", "ring"]

LESION_KINDS: tuple[LesionKind, ...] = get_args(LesionKind)
# Raise it when a change alters the pictures of a seed: old folders then no longer match.
DRAWING_VERSION = 2

_OVERSAMPLING = 3
MIN_SIZE = 16
_LESION_ATTEMPTS = 100
_SMALLEST_LESION = 0.0015  # share of the image's area
_FAINTEST_LESION = 0.08  # mean change of signal, of the full range of 1


@dataclass(frozen=True)
class Phantom:
    """A drawn head without a lesion, and what is needed to put one in."""

    image: Image  # the slice, (H, W) uint8
    signal: Field  # signal before shading and noise in [0, 1], (S, S) with S = 3 H
    tissue: Field  # share of grey and white matter at each place in [0, 1], (S, S)
    shading: Field  # sensitivity of the coil, about 1, (S, S)
    noise: Field  # noise of the two channels of the receiver, (2, H, W)


def draw_phantom(rng: np.random.Generator, size: int) -> Phantom:
    """Draw a head of a random person, pose and height, without a lesion.

    Args:
        rng: Source of all randomness: the same state gives the same head, at any size.
        size: Height and width of the image in pixels, at least 16.

    Raises:
        ValueError: If ``size`` is too small to show a head.
    """
    if size < MIN_SIZE:
        raise ValueError(f"size {size} is too small for a head: use {MIN_SIZE} or more")
    return draw_slice(rng.standard_normal, draw_anatomy(rng), size, rng.standard_normal)


def draw_slice(normal: Normal, anatomy: Anatomy, size: int, receiver: Normal) -> Phantom:
    """Draw one slice of a head.

    Args:
        normal: Source of folds, outlines and shading.
        anatomy: Whose head, and where it is cut.
        size: Height and width of the image in pixels.
        receiver: Source of the receiver's noise.
    """
    signal, tissue = draw_signal(normal, anatomy, size * _OVERSAMPLING)
    shading = 1 + 0.05 * smooth_noise(normal, 3, size * _OVERSAMPLING)
    noise = receiver((2, size, size), dtype=np.float32) * anatomy.noise
    return Phantom(_render(signal, shading, noise), signal, tissue, shading, noise)


def add_lesion(
    rng: np.random.Generator, phantom: Phantom, kind: LesionKind | None = None
) -> tuple[Image, Image]:
    """Put a lesion of random place, size, outline and contrast into the brain of a phantom.

    Lesions grow in grey and white matter only and leave fluid as it is. One that would hardly
    show (a dark one beside a ventricle, say) is drawn again: a mask over something invisible
    would make every method look worse than it is.

    Args:
        rng: Source of all randomness.
        phantom: The head; it stays as it is.
        kind: Brighter or darker than its surroundings, or a bright rim about a dark core;
            drawn where None.

    Returns:
        The image and its mask, both (H, W) uint8; the mask is 255 in the lesion and 0 elsewhere.
        Outside the mask the image equals that of the phantom.

    Raises:
        RuntimeError: If no visible lesion was found, which takes a phantom without a brain.
    """
    kind = kind or LESION_KINDS[rng.integers(len(LESION_KINDS))]
    size = phantom.image.shape[0]
    for _ in range(_LESION_ATTEMPTS):
        extent, change = _draw_lesion(rng, phantom, kind)
        inside = downsample(extent, size) > 0.25
        visible = np.abs(downsample(change, size)[inside])
        if inside.mean() > _SMALLEST_LESION and visible.mean() > _FAINTEST_LESION:
            return show_lesion(phantom, extent, change)
    raise RuntimeError("no place for a visible lesion in this phantom")


def grow_lesion(
    phantom: Phantom, distance: Field, softness: float, contrast: Field | float
) -> tuple[Field, Field]:
    """A lesion's extent in [0, 1] and the change of signal that it makes, both (S, S).

    Args:
        phantom: The head; only its grey and white matter changes.
        distance: From the lesion's middle, 1 at its outline, (S, S).
        softness: Width of the outline's ramp.
        contrast: Signal of the lesion less that of its surroundings.
    """
    extent = below(distance, 1, softness) * phantom.tissue
    changed = np.clip(phantom.signal + contrast, 0.03, 0.95)
    return extent, extent * (changed - phantom.signal)


def show_lesion(phantom: Phantom, extent: Field, change: Field) -> tuple[Image, Image]:
    """A phantom's image with a lesion, and its mask, see :func:`add_lesion`."""
    inside = downsample(extent, phantom.image.shape[0]) > 0.25
    lesioned = _render(phantom.signal + change, phantom.shading, phantom.noise)
    return np.where(inside, lesioned, phantom.image), inside.astype(np.uint8) * 255


def _draw_lesion(
    rng: np.random.Generator, phantom: Phantom, kind: LesionKind
) -> tuple[Field, Field]:
    """A lesion's extent in [0, 1] and the change of signal that it makes, both (S, S)."""
    size = phantom.signal.shape[0]
    distance = _lesion_distance(rng, phantom.tissue)
    softness = rng.uniform(0.15, 0.45)
    contrast = log_uniform(rng, 0.17, 0.45)
    if kind == "ring":
        core = below(distance, rng.uniform(0.5, 0.7), 0.2)
        profile = 1 - 1.7 * core
    else:
        profile = np.full_like(distance, 1 if kind == "bright" else -1)
    texture = 1 + 0.15 * smooth_noise(rng.standard_normal, 20, size)
    return grow_lesion(phantom, distance, softness, contrast * profile * texture)


def _lesion_distance(rng: np.random.Generator, tissue: Field) -> Field:
    """Distance from a lesion's middle, 1 at its irregular outline."""
    x, y = pixel_grid(tissue.shape[0])
    rows, columns = np.nonzero(tissue > 0.8)
    chosen = rng.integers(len(rows))
    x = x - x[rows[chosen], columns[chosen]]
    y = y - y[rows[chosen], columns[chosen]]
    turn, stretch = rng.uniform(0, math.pi), log_uniform(rng, 0.75, 1.33)
    across = (math.cos(turn) * x + math.sin(turn) * y) * stretch
    along = (math.cos(turn) * y - math.sin(turn) * x) / stretch
    outline = 1 + 0.14 * periodic_noise(rng.standard_normal, np.arctan2(along, across), 5)
    half_size = log_uniform(rng, 0.1, 0.3)
    return np.hypot(across, along) / (half_size * outline)


def _render(signal: Field, shading: Field, noise: Field) -> Image:
    # The magnitude of two noisy channels: Rician noise, as in magnetic resonance images.
    clean = downsample(signal * shading, noise.shape[-1])
    magnitude = np.hypot(clean + noise[0], noise[1])
    return np.clip(magnitude * 255 + 0.5, 0, 255).astype(np.uint8)
