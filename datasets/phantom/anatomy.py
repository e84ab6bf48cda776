"""Heads without lesions: their anatomy and its signal in FLAIR magnetic resonance images.

Lengths are in units of half the image unless said otherwise, as in :mod:`datasets.phantom.draw`.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.phantom.fields import (
    Field,
    Normal,
    below,
    mix,
    periodic_noise,
    pixel_grid,
    smooth_noise,
)


@dataclass(frozen=True)
class Anatomy:
    """One head and how it was imaged. Signals are in [0, 1], angles in radians."""

    tilt: float  # rotation of the head in the image plane
    shift_x: float  # place of the head's middle
    shift_y: float  # place of the head's middle
    half_length: float  # half the distance from forehead to occiput
    aspect: float  # width of the head over its length
    egg: float  # how much narrower the forehead is than the back of the head, as a share
    height: float  # 0 is a slice through the deep nuclei, 1 one above the ventricles
    ventricles: float  # half-width of a lateral ventricle, as a share of half_length
    sulci: float  # share of a sulcus that is filled with fluid; 1 is an old brain
    scalp: float  # signal of the fat under the skin
    white: float  # signal of white matter
    grey_contrast: float  # signal of grey matter less that of white matter
    fluid: float  # signal of cerebrospinal fluid, which FLAIR suppresses
    noise: float  # standard deviation of the receiver's noise
    # How far the slice lies above the head's middle; 1 is the vertex. A slice of a head alone lies
    # at 0, whatever it shows.
    elevation: float = 0.0


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw who is imaged, in which pose, at which height."""
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


def draw_signal(normal: Normal, anatomy: Anatomy, size: int) -> tuple[Field, Field]:
    """The signal of a head and its share of grey and white matter, both (size, size) in [0, 1]."""
    # Lengths in here are in units of the head's half-length; radius is 1 at the skin.
    x, y = _head_coordinates(anatomy, size)
    width = anatomy.aspect * (1 + anatomy.egg * np.clip(y, -1, 1))
    angle = np.arctan2(x / width, y)
    radius = np.hypot(np.hypot(x / width, y), anatomy.elevation)
    radius = radius * (1 + 0.012 * periodic_noise(normal, angle, 6))
    x_warped = x + 0.012 * smooth_noise(normal, 8, size)
    y_warped = y + 0.012 * smooth_noise(normal, 8, size)

    folds = _fold_noise(normal, angle, radius)
    brain = below(radius, 0.85)
    fluid = np.maximum(
        _sulci(anatomy, folds, radius),
        np.maximum(_fissure(anatomy, x_warped, y), _ventricles(anatomy, x_warped, y_warped)),
    )
    grey = np.maximum(_cortex(anatomy, folds, radius), _deep_nuclei(anatomy, x_warped, y_warped))
    matter = anatomy.white + anatomy.grey_contrast * grey + 0.006 * smooth_noise(normal, 24, size)
    signal = mix(_skull_and_scalp(normal, anatomy, angle, radius), matter, brain)
    tissue = brain * (1 - fluid)
    return mix(signal, anatomy.fluid, brain * fluid), tissue


def _head_coordinates(anatomy: Anatomy, size: int) -> tuple[Field, Field]:
    x, y = pixel_grid(size)
    x, y = x - anatomy.shift_x, y - anatomy.shift_y
    cosine, sine = math.cos(anatomy.tilt), math.sin(anatomy.tilt)
    scale = 1 / anatomy.half_length
    return scale * (cosine * x + sine * y), scale * (cosine * y - sine * x)


def _skull_and_scalp(normal: Normal, anatomy: Anatomy, angle: Field, radius: Field) -> Field:
    bone = 0.93 - 0.015 * np.cos(angle) + 0.01 * periodic_noise(normal, angle, 5)
    scalp = below(radius, 1.0) * below(bone, radius)
    # Marrow shows as a faint line between the two dark tables of the skull.
    marrow = 0.25 * np.exp(-(((radius - bone + 0.035) / 0.012) ** 2))
    fluid = anatomy.fluid * below(radius, 0.88)
    return anatomy.scalp * scalp + anatomy.scalp * marrow + fluid


def _fold_noise(normal: Normal, angle: Field, radius: Field) -> Field:
    """Noise whose lines run mostly inward, as gyri do: fine around the head, coarse along it."""
    around, inward = 34, 6
    cells = normal((inward, around)).astype(np.float32)
    fine = cv2.resize(np.hstack([cells] * 3), (3 * 256, 64), interpolation=cv2.INTER_CUBIC)
    column = (angle / (2 * math.pi) + 1.5) * 256
    sampled = cv2.remap(
        fine, column, radius * 63, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(sampled, np.float32)


def _folded_rim(anatomy: Anatomy, folds: Field, radius: Field) -> Field:
    # The folds reach further in towards the vertex, where the slice cuts the cortex aslant.
    inner = 0.7 - 0.2 * anatomy.height
    return below(inner, radius + 0.06 * folds, 0.15)


def _cortex(anatomy: Anatomy, folds: Field, radius: Field) -> Field:
    # A ribbon of grey matter covers the brain and lines both walls of every sulcus.
    lining = np.exp(-((folds / 0.55) ** 2)) * _folded_rim(anatomy, folds, radius)
    return np.maximum(lining, below(0.79, radius + 0.02 * folds, 0.03))


def _sulci(anatomy: Anatomy, folds: Field, radius: Field) -> Field:
    # The zero lines of smooth noise are smooth curves that never cross: drawn thin, they are sulci.
    rim = _folded_rim(anatomy, folds, radius - 0.05)
    return anatomy.sulci * rim * np.exp(-((folds / 0.2) ** 2))


def _fissure(anatomy: Anatomy, x: Field, y: Field) -> Field:
    # Between the hemispheres; below the ventricles' roof the callosum bridges its middle.
    bridge = 0.52 * (anatomy.height < 0.75)
    line = np.exp(-((x / 0.013) ** 2))
    return 0.8 * line * below(bridge, np.abs(y + 0.04), 0.08)


def _ventricles(anatomy: Anatomy, x: Field, y: Field) -> Field:
    # Two bows that part to the front and to the back; they shrink to nothing towards the vertex.
    presence = min((0.8 - anatomy.height) / 0.15, 1)
    low = 1 - anatomy.height
    length = 0.3 + 0.12 * low
    along = np.clip((y + 0.02) / length, -1, 1)
    middle = 0.05 + 0.5 * anatomy.ventricles + (0.08 + 0.14 * low) * along**2
    half_width = anatomy.ventricles * presence * (1 - along**4) * (1 - 0.6 * low * (1 - along**2))
    lateral = below(np.abs(np.abs(x) - middle), half_width, 0.02) * (half_width > 0)
    third = np.exp(-((x / (0.2 * anatomy.ventricles + 0.01)) ** 2))
    third = third * below(np.abs(y - 0.05), 0.1, 0.04) * max(2 * low - 1, 0)
    return np.maximum(lateral, third)


def _deep_nuclei(anatomy: Anatomy, x: Field, y: Field) -> Field:
    # Thalamus, putamen and the head of the caudate, on both sides of the low slices.
    show = min(max(2 * (0.6 - anatomy.height), 0), 0.8)
    aside = np.abs(x)
    thalamus = np.hypot((aside - 0.12) / 0.09, (y - 0.12) / 0.14)
    putamen = np.hypot((aside - 0.3 - 0.25 * y) / 0.06, (y + 0.05) / 0.17)
    caudate = np.hypot((aside - 0.17) / 0.05, (y + 0.24) / 0.09)
    return show * below(np.minimum(np.minimum(thalamus, putamen), caudate), 1, 0.4)
