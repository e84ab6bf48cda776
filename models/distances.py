"""Distances between two feature tensors along their channels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Distance = Callable[[Tensor, Tensor], Tensor]


def _cosine(features: Tensor, other: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(features, other, dim=1)


def _squared(features: Tensor, other: Tensor) -> Tensor:
    return (features - other).square().mean(dim=1)


def _absolute(features: Tensor, other: Tensor) -> Tensor:
    return (features - other).abs().mean(dim=1)


def _squared_total(features: Tensor, other: Tensor) -> Tensor:
    per_image = (features - other).square().flatten(1).mean(dim=1)
    return _spread(per_image, features)


def _cosine_total(features: Tensor, other: Tensor) -> Tensor:
    per_image = 1 - F.cosine_similarity(features.flatten(1), other.flatten(1), dim=1)
    return _spread(per_image, features)


def _spread(per_image: Tensor, features: Tensor) -> Tensor:
    """(B,) → (B, h, w), the same number everywhere."""
    return per_image[:, None, None].expand(-1, *features.shape[-2:])


DISTANCES: dict[str, Distance] = {
    "cosine": _cosine,
    "L2": _squared,
    "L1": _absolute,
    "L2tot": _squared_total,
    "cosinetot": _cosine_total,
}


def feature_distance(features: Tensor, other: Tensor, metric: str) -> Tensor:
    """Distance map of two feature maps, computed in fp32 or better whatever comes in.

    Args:
        features: (B, C, h, w).
        other: (B, C, h, w).
        metric: ``cosine`` (1 − cos over channels), ``L2`` or ``L1`` (mean over channels), or
            ``cosinetot`` and ``L2tot`` (one number an image, spread over its map).

    Returns:
        (B, h, w), from 0 up.
    """
    return DISTANCES[metric](at_least_fp32(features), at_least_fp32(other))


def at_least_fp32(values: Tensor) -> Tensor:
    """Half precision widened to fp32; fp32 and fp64 as they are."""
    return values.float() if values.element_size() < 4 else values
