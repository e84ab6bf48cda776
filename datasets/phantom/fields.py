"""Building blocks of phantoms: smooth noise, soft edges, pixel grids."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
# Standard normal numbers of a shape, as numpy.random.Generator.standard_normal gives them.
Normal = Callable[..., Field]


@lru_cache(maxsize=4)
def pixel_grid(size: int) -> tuple[Field, Field]:
    """X and y of the middle of each pixel in [-1, 1], both (size, size)."""
    places = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = np.meshgrid(places, places)
    return x, y


def smooth_noise(normal: Normal, cells: int, size: int) -> Field:
    """Noise of zero mean and about unit variance, with ``cells`` bumps per side, (size, size)."""
    coarse = normal((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def periodic_noise(normal: Normal, angle: Field, harmonics: int) -> Field:
    """Smooth noise of unit variance around a circle; each harmonic is weaker than the last."""
    orders = np.arange(1, harmonics + 1)
    weights = normal((2, harmonics)) / orders
    circle = np.linspace(-np.pi, np.pi, 361)
    waves = weights[0] @ np.cos(np.outer(orders, circle))
    waves += weights[1] @ np.sin(np.outer(orders, circle))
    values = waves / np.sqrt((1 / orders**2).sum())
    return np.interp(angle, circle, values).astype(np.float32)


def below(value: Any, edge: Any, softness: float = 0.015) -> Field:
    """1 where value < edge, 0 where it is above, with a ramp of width ``softness`` between."""
    return np.clip((edge - value) * (1 / softness) + 0.5, 0, 1).astype(np.float32)


def mix(under: Field, over: Any, share: Field) -> Field:
    """``over`` laid on ``under``, as opaque as ``share`` in [0, 1]."""
    return (under + share * (over - under)).astype(np.float32)


def downsample(field: Field, size: int) -> Field:
    """Averages of a square field, (size, size)."""
    return np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number in [low, high], uniform on a logarithmic scale."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
