"""Distance of each patch of an image to the nearest kept patch."""

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor

from models.criteria import resize_maps

# With 12,000 kept patches, a block of products takes 50 MB.
_AT_ONCE = 1024


def neighbour_maps(tokens: Sequence[Tensor], kept: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Maps of the distance to the nearest kept patch.

    Args:
        tokens: For each encoder the patches of images, (B, patches, D), row by row of a square.
        kept: For each encoder, (M, D).
        size: Height and width of the maps.

    Returns:
        (R, B, 1, H, W), R the number of encoders.
    """
    maps = []
    for patches, nearest in zip(tokens, kept, strict=True):
        side = isqrt(patches.shape[1])
        distances = nearest_distance(patches.flatten(0, 1), nearest)
        maps.append(resize_maps(distances.view(1, len(patches), 1, side, side), size))
    return torch.cat(maps)


def nearest_distance(points: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance of each point to the nearest of others, all of length 1.

    Products tell which one is nearest; the distance is that of the two, without the rounding that
    a product of nearly equal points leaves.

    Args:
        points: (N, D).
        others: (M, D).

    Returns:
        (N,), 0 to 2.
    """
    blocks = [
        torch.linalg.vector_norm(block - others[(block @ others.mT).argmax(dim=1)], dim=1)
        for block in points.split(_AT_ONCE)
    ]
    return torch.cat(blocks)
