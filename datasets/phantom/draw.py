"""Head phantoms with and without lesions: a seeded stand-in where no patient data may be used.

Axial slices that look like FLAIR magnetic resonance images of the head, and lesions with masks;
``datasets.phantom.write`` writes them as files. Lengths are in units of half the image unless
said otherwise: the image spans [-1, 1] both ways, x to the right and y down (the nose is up).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[np.uint8]
LesionKind = Literal["bright", "dark", "ring"]

LESION_KINDS: tuple[LesionKind, ...] = get_args(LesionKind)
# Raise it when a change makes other pictures of the same seed: old folders then no longer match.
DRAWING_VERSION = 2

_OVERSAMPLING = 3
MIN_SIZE = 16
_LESION_ATTEMPTS = 100
_SMALLEST_LESION = 0.003  # share of the image's area
_FAINTEST_LESION = 0.15  # mean change of signal, of the full range of 1


@dataclass(frozen=True)
class Anatomy:
    """One head and how it was imaged. Signals are in [0, 1], angles in radians.

    Attributes:
        tilt: Rotation of the head in the image plane.
        shift_x: Place of the head's middle.
        shift_y: Place of the head's middle.
        half_length: Half the distance from forehead to occiput.
        aspect: Width of the head over its length.
        egg: How much narrower the forehead is than the back of the head, as a share.
        height: 0 is a slice through the deep nuclei, 1 one above the ventricles.
        ventricles: Half-width of a lateral ventricle, as a share of half_length.
        sulci: Share of a sulcus that is filled with fluid; 1 is an old brain.
        scalp: Signal of the fat under the skin.
        white: Signal of white matter.
        grey_contrast: Signal of grey matter less that of white matter.
        fluid: Signal of cerebrospinal fluid, which FLAIR suppresses.
        noise: Standard deviation of the receiver's noise.
    """

    tilt: float
    shift_x: float
    shift_y: float
    half_length: float
    aspect: float
    egg: float
    height: float
    ventricles: float
    sulci: float
    scalp: float
    white: float
    grey_contrast: float
    fluid: float
    noise: float


@dataclass(frozen=True)
class Phantom:
    """A drawn head without a lesion, and what is needed to put one in.

    Attributes:
        image: The slice, (H, W) uint8.
        signal: Signal before shading and noise in [0, 1], (S, S) with S = 3 H.
        tissue: Share of grey and white matter at each place in [0, 1], (S, S).
        shading: Sensitivity of the coil, about 1, (S, S).
        noise: Noise of the two channels of the receiver, (2, H, W).
    """

    image: Image
    signal: Field
    tissue: Field
    shading: Field
    noise: Field


def draw_phantom(rng: np.random.Generator, size: int) -> Phantom:
    """Draw a head of a random person, pose and height, without a lesion.

    Args:
        rng: Source of all randomness: the same state gives the same head, at any size.
        size: Height and width of the image in pixels, at least 16.

    Raises:
        ValueError: If ``size`` is too small to show a head.
    """
    if size < MIN_SIZE:
        raise ValueError(f"size {size} is too small for a head: give {MIN_SIZE} or more")
    anatomy = _draw_anatomy(rng)
    signal, tissue = _draw_signal(rng, anatomy, size * _OVERSAMPLING)
    shading = 1 + 0.05 * _smooth_noise(rng, 3, size * _OVERSAMPLING)
    noise = rng.standard_normal((2, size, size), dtype=np.float32) * anatomy.noise
    return Phantom(_render(signal, shading, noise), signal, tissue, shading, noise)


def add_lesion(
    rng: np.random.Generator, phantom: Phantom, kind: LesionKind | None = None
) -> tuple[Image, Image]:
    """Put a lesion of random place, size, outline and contrast into the brain of a phantom.

    Lesions grow in grey and white matter only and leave fluid as it is. One that would hardly
    show (a dark one beside a ventricle, say) is drawn anew: a mask over nothing to be seen would
    make every method look worse than it is.

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
        inside = _downsample(extent, size) > 0.25
        visible = np.abs(_downsample(change, size)[inside])
        if inside.mean() > _SMALLEST_LESION and visible.mean() > _FAINTEST_LESION:
            lesioned = _render(phantom.signal + change, phantom.shading, phantom.noise)
            return np.where(inside, lesioned, phantom.image), inside.astype(np.uint8) * 255
    raise RuntimeError("no place for a visible lesion in this phantom")


def _draw_anatomy(rng: np.random.Generator) -> Anatomy:
    uniform = rng.uniform
    return Anatomy(
        tilt=uniform(-0.05, 0.05),
        shift_x=uniform(-0.015, 0.015),
        shift_y=uniform(-0.015, 0.015),
        half_length=uniform(0.82, 0.87),
        aspect=uniform(0.75, 0.8),
        egg=uniform(0.04, 0.08),
        height=uniform(0, 0.8),
        ventricles=uniform(0.04, 0.08),
        sulci=uniform(0.1, 0.4),
        scalp=uniform(0.56, 0.66),
        white=uniform(0.36, 0.44),
        grey_contrast=uniform(0.06, 0.1),
        fluid=uniform(0.06, 0.12),
        noise=uniform(0.005, 0.012),
    )


def _draw_signal(rng: np.random.Generator, anatomy: Anatomy, size: int) -> tuple[Field, Field]:
    # Lengths in here are in units of the head's half-length; radius is 1 at the skin.
    x, y = _head_coordinates(anatomy, size)
    width = anatomy.aspect * (1 + anatomy.egg * np.clip(y, -1, 1))
    angle = np.arctan2(x / width, y)
    radius = np.hypot(x / width, y) * (1 + 0.012 * _periodic_noise(rng, angle, 6))
    x_warped = x + 0.012 * _smooth_noise(rng, 8, size)
    y_warped = y + 0.012 * _smooth_noise(rng, 8, size)

    folds = _fold_noise(rng, angle, radius)
    brain = _below(radius, 0.85)
    fluid = np.maximum(
        _sulci(anatomy, folds, radius),
        np.maximum(_fissure(anatomy, x_warped, y), _ventricles(anatomy, x_warped, y_warped)),
    )
    grey = np.maximum(_cortex(anatomy, folds, radius), _deep_nuclei(anatomy, x_warped, y_warped))
    matter = anatomy.white + anatomy.grey_contrast * grey + 0.006 * _smooth_noise(rng, 24, size)
    signal = _mix(_skull_and_scalp(rng, anatomy, angle, radius), matter, brain)
    tissue = brain * (1 - fluid)
    return _mix(signal, anatomy.fluid, brain * fluid), tissue


def _head_coordinates(anatomy: Anatomy, size: int) -> tuple[Field, Field]:
    x, y = _pixel_grid(size)
    x, y = x - anatomy.shift_x, y - anatomy.shift_y
    cosine, sine = math.cos(anatomy.tilt), math.sin(anatomy.tilt)
    scale = 1 / anatomy.half_length
    return scale * (cosine * x + sine * y), scale * (cosine * y - sine * x)


@lru_cache(maxsize=4)
def _pixel_grid(size: int) -> tuple[Field, Field]:
    places = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(places, places)
    return x, y


def _skull_and_scalp(
    rng: np.random.Generator, anatomy: Anatomy, angle: Field, radius: Field
) -> Field:
    bone = 0.93 - 0.015 * np.cos(angle) + 0.01 * _periodic_noise(rng, angle, 5)
    scalp = _below(radius, 1.0) * _below(bone, radius)
    # Marrow shows as a faint line between the two dark tables of the skull.
    marrow = 0.25 * np.exp(-(((radius - bone + 0.035) / 0.012) ** 2))
    fluid = anatomy.fluid * _below(radius, 0.88)
    return anatomy.scalp * scalp + anatomy.scalp * marrow + fluid


def _fold_noise(rng: np.random.Generator, angle: Field, radius: Field) -> Field:
    """Noise whose lines run mostly inward, as gyri do: fine around the head, coarse along it."""
    around, inward = 34, 6
    cells = rng.standard_normal((inward, around)).astype(np.float32)
    fine = cv2.resize(np.hstack([cells] * 3), (3 * 256, 64), interpolation=cv2.INTER_CUBIC)
    column = (angle / (2 * math.pi) + 1.5) * 256
    sampled = cv2.remap(
        fine, column, radius * 63, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, np.float32)


def _folded_rim(anatomy: Anatomy, folds: Field, radius: Field) -> Field:
    # The folds reach further in towards the vertex, where the slice cuts the cortex aslant.
    inner = 0.7 - 0.2 * anatomy.height
    return _below(inner, radius + 0.06 * folds, 0.15)


def _cortex(anatomy: Anatomy, folds: Field, radius: Field) -> Field:
    # A ribbon of grey matter covers the brain and lines both walls of every sulcus.
    lining = np.exp(-((folds / 0.55) ** 2)) * _folded_rim(anatomy, folds, radius)
    return np.maximum(lining, _below(0.79, radius + 0.02 * folds, 0.03))


def _sulci(anatomy: Anatomy, folds: Field, radius: Field) -> Field:
    # The zero lines of smooth noise are smooth curves that never cross: drawn thin, they are sulci.
    rim = _folded_rim(anatomy, folds, radius - 0.05)
    return anatomy.sulci * rim * np.exp(-((folds / 0.2) ** 2))


def _fissure(anatomy: Anatomy, x: Field, y: Field) -> Field:
    # Between the hemispheres; below the ventricles' roof the callosum bridges its middle.
    bridge = 0.52 * (anatomy.height < 0.75)
    line = np.exp(-((x / 0.013) ** 2))
    return 0.8 * line * _below(bridge, np.abs(y + 0.04), 0.08)


def _ventricles(anatomy: Anatomy, x: Field, y: Field) -> Field:
    # Two bows that part to the front and to the back; they shrink to nothing towards the vertex.
    presence = min(max((0.8 - anatomy.height) / 0.15, 0), 1)
    if presence == 0:
        return np.zeros_like(x)
    low = 1 - anatomy.height
    length = 0.3 + 0.12 * low
    along = np.clip((y + 0.02) / length, -1, 1)
    middle = 0.05 + 0.5 * anatomy.ventricles + (0.08 + 0.14 * low) * along**2
    half_width = anatomy.ventricles * presence * (1 - along**4) * (1 - 0.6 * low * (1 - along**2))
    lateral = _below(np.abs(np.abs(x) - middle), half_width, 0.02) * (half_width > 0)
    third = np.exp(-((x / (0.2 * anatomy.ventricles + 0.01)) ** 2))
    third = third * _below(np.abs(y - 0.05), 0.1, 0.04) * max(2 * low - 1, 0)
    return np.maximum(lateral, third)


def _deep_nuclei(anatomy: Anatomy, x: Field, y: Field) -> Field:
    # Thalamus, putamen and the head of the caudate, on both sides of the low slices.
    show = min(max(2 * (0.6 - anatomy.height), 0), 0.8)
    aside = np.abs(x)
    thalamus = np.hypot((aside - 0.12) / 0.09, (y - 0.12) / 0.14)
    putamen = np.hypot((aside - 0.3 - 0.25 * y) / 0.06, (y + 0.05) / 0.17)
    caudate = np.hypot((aside - 0.17) / 0.05, (y + 0.24) / 0.09)
    return show * _below(np.minimum(np.minimum(thalamus, putamen), caudate), 1, 0.4)


def _draw_lesion(
    rng: np.random.Generator, phantom: Phantom, kind: LesionKind
) -> tuple[Field, Field]:
    """A lesion's extent in [0, 1] and the change of signal that it makes, both (S, S)."""
    size = phantom.signal.shape[0]
    distance = _lesion_distance(rng, phantom.tissue)
    extent = _below(distance, 1, rng.uniform(0.15, 0.45)) * phantom.tissue
    contrast = _log_uniform(rng, 0.25, 0.5)
    if kind == "ring":
        core = _below(distance, rng.uniform(0.5, 0.7), 0.2)
        profile = 1 - 1.7 * core
    else:
        profile = np.full_like(distance, 1 if kind == "bright" else -1)
    texture = 1 + 0.15 * _smooth_noise(rng, 20, size)
    changed = np.clip(phantom.signal + contrast * profile * texture, 0.03, 0.95)
    return extent, extent * (changed - phantom.signal)


def _lesion_distance(rng: np.random.Generator, tissue: Field) -> Field:
    """Distance from a lesion's middle, 1 at its irregular outline."""
    x, y = _pixel_grid(tissue.shape[0])
    rows, columns = np.nonzero(tissue > 0.8)
    chosen = rng.integers(len(rows))
    x = x - x[rows[chosen], columns[chosen]]
    y = y - y[rows[chosen], columns[chosen]]
    turn, stretch = rng.uniform(0, math.pi), _log_uniform(rng, 0.75, 1.33)
    across = (math.cos(turn) * x + math.sin(turn) * y) * stretch
    along = (math.cos(turn) * y - math.sin(turn) * x) / stretch
    outline = 1 + 0.14 * _periodic_noise(rng, np.arctan2(along, across), 5)
    half_size = _log_uniform(rng, 0.12, 0.32)
    return np.hypot(across, along) / (half_size * outline)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _render(signal: Field, shading: Field, noise: Field) -> Image:
    # The magnitude of two noisy channels: Rician noise, as in magnetic resonance images.
    clean = _downsample(signal * shading, noise.shape[-1])
    magnitude = np.hypot(clean + noise[0], noise[1])
    return np.clip(magnitude * 255 + 0.5, 0, 255).astype(np.uint8)


def _downsample(field: Field, size: int) -> Field:
    return np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def _smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Noise of zero mean and about unit variance, with ``cells`` bumps a side, (size, size)."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _periodic_noise(rng: np.random.Generator, angle: Field, harmonics: int) -> Field:
    """Smooth noise of unit variance around a circle; each harmonic is weaker than the last."""
    orders = np.arange(1, harmonics + 1)
    weights = rng.standard_normal((2, harmonics)) / orders
    circle = np.linspace(-np.pi, np.pi, 361)
    waves = weights[0] @ np.cos(np.outer(orders, circle))
    waves += weights[1] @ np.sin(np.outer(orders, circle))
    values = waves / np.sqrt((1 / orders**2).sum())
    return np.interp(angle, circle, values).astype(np.float32)


def _below(value: Any, edge: Any, softness: float = 0.015) -> Field:
    """1 where value < edge, 0 where it is above, with a ramp of width ``softness`` between."""
    return np.clip((edge - value) * (1 / softness) + 0.5, 0, 1).astype(np.float32)


def _mix(under: Field, over: Any, share: Field) -> Field:
    return (under + share * (over - under)).astype(np.float32)
