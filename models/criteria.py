"""Criteria: (x, x̂) to distance maps of shape (R, B, 1, h, w), R the number of hidden states."""

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.distances import feature_distance
from models.perceptual import PerceptualResNet, PerceptualViT


class Criterion(nn.Module):
    """Maps images and their reconstructions to distance maps."""

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice, normalised → (R, B, 1, h, w), fp32, from 0 up."""
        raise AssertionError("subclasses define the distance")

    def compare(self, images: Tensor, reconstructions: Sequence[Tensor]) -> list[Tensor]:
        """The maps of several reconstructions of the same images."""
        return [self(images, each) for each in reconstructions]


class MultiPatchPerceptual(Criterion):
    """Product over patch sizes of the perceptual distance (paper section 3.3).

    Args:
        network: The perceptual ViT, with all of ``patch_sizes``.
        patch_sizes: Patch sizes whose maps are multiplied.
        block_indices: Hidden states R, block indices from 0.
        metric: A key of :data:`models.distances.DISTANCES`.
    """

    def __init__(
        self,
        network: PerceptualViT,
        *,
        patch_sizes: Sequence[int],
        block_indices: Sequence[int],
        metric: str,
    ) -> None:
        super().__init__()
        self.network = network
        self.patch_sizes = tuple(patch_sizes)
        self.block_indices = tuple(block_indices)
        self.metric = metric

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (R, B, 1, H, W)."""
        return self.compare(images, [reconstructions])[0]

    def compare(self, images: Tensor, reconstructions: Sequence[Tensor]) -> list[Tensor]:
        """The maps of several reconstructions; features of the images are computed once."""
        size = images.shape[-2:]
        products: list[Tensor] = []
        for patch_size in self.patch_sizes:
            distances = self.distances(images, reconstructions, patch_size)
            maps = [resize_maps(each, size) for each in distances]
            pairs = zip(products, maps, strict=True)
            products = [product * each for product, each in pairs] if products else maps
        return products

    def distances(
        self, images: Tensor, reconstructions: Sequence[Tensor], patch_size: int
    ) -> list[Tensor]:
        """(B, 3, H, W) each → (R, B, 1, H/patch_size, W/patch_size), for one patch size."""
        if any(each.requires_grad for each in reconstructions):
            with torch.no_grad():
                targets = self.network(images, patch_size, self.block_indices)
            features = [self.network(r, patch_size, self.block_indices) for r in reconstructions]
        else:
            # Large patches are few: more rows make each product faster.
            count = 1 + len(reconstructions)
            stacked = self.network(
                torch.cat([images, *reconstructions]), patch_size, self.block_indices
            )
            targets, *features = zip(*(s.unflatten(0, (count, -1)) for s in stacked), strict=True)
        return [self._distance(targets, each) for each in features]

    def _distance(self, targets: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w) for each of R blocks, twice → (R, B, 1, h, w)."""
        pairs = zip(targets, features, strict=True)
        return torch.stack([feature_distance(*pair, self.metric) for pair in pairs]).unsqueeze(2)


class SinglePatchPerceptual(MultiPatchPerceptual):
    """The perceptual distance at one patch size: maps (R, B, 1, H/patch_size, W/patch_size)."""

    def compare(self, images: Tensor, reconstructions: Sequence[Tensor]) -> list[Tensor]:
        """The maps of several reconstructions; features of the images are computed once."""
        return self.distances(images, reconstructions, self.patch_sizes[0])


class PatchEmbeddingDistance(Criterion):
    """Squared difference of the patch embeddings, before positions are added."""

    def __init__(self, network: PerceptualViT, patch_size: int) -> None:
        super().__init__()
        self.network = network
        self.patch_size = patch_size

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (1, B, 1, H/patch_size, W/patch_size)."""
        target = self.network.embed(images, self.patch_size)
        found = self.network.embed(reconstructions, self.patch_size)
        return feature_distance(target, found, "L2")[None, :, None]


class ResNetPerceptual(Criterion):
    """Distance of some of a ResNet's stages, resized to the largest and averaged.

    Args:
        network: The perceptual ResNet.
        stages: Which of its five feature maps: 0 is the stem, negative ones count from the end.
        metric: A key of :data:`models.distances.DISTANCES`.
    """

    def __init__(self, network: PerceptualResNet, stages: Sequence[int], metric: str) -> None:
        super().__init__()
        self.network = network
        self.stages = tuple(stages)
        self.metric = metric

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (1, B, 1, h, w), the size of the largest stage."""
        with torch.no_grad():
            targets = self.network(images)
        features = self.network(reconstructions)
        maps = [
            feature_distance(targets[stage], features[stage], self.metric)[:, None]
            for stage in self.stages
        ]
        size = max((stage.shape[-2:] for stage in maps), key=prod)
        return torch.stack([_upsample(stage, size) for stage in maps]).mean(dim=0, keepdim=True)


class PixelDistance(Criterion):
    """A distance of the normalised images themselves.

    Args:
        metric: A key of :data:`models.distances.DISTANCES`.
    """

    def __init__(self, metric: str) -> None:
        super().__init__()
        self.metric = metric

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (1, B, 1, H, W)."""
        return feature_distance(images, reconstructions, self.metric)[None, :, None]


class WeightedCriteria(Criterion):
    """Several criteria, with one weight for each."""

    def __init__(self, criteria: Sequence[Criterion], weights: Sequence[float]) -> None:
        super().__init__()
        self.criteria = nn.ModuleList(criteria)
        self.weights = tuple(weights)

    def _weighted_maps(self, images: Tensor, reconstructions: Tensor) -> list[Tensor]:
        pairs = zip(self.criteria, self.weights, strict=True)
        return [weight * criterion(images, reconstructions) for criterion, weight in pairs]

    def loss(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Mean over all (criterion, hidden state, image) of the weighted map's mean; a scalar."""
        maps = self._weighted_maps(images, reconstructions)
        return torch.cat([each.mean(dim=(2, 3, 4)).flatten() for each in maps]).mean()

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (R, B, 1, h, w), all criteria stacked on R at the largest size."""
        return _stacked(self._weighted_maps(images, reconstructions))

    def compare(self, images: Tensor, reconstructions: Sequence[Tensor]) -> list[Tensor]:
        """The maps of several reconstructions; features of the images are computed once."""
        pairs = zip(cast(Sequence[Criterion], self.criteria), self.weights, strict=True)
        found = [
            [weight * maps for maps in criterion.compare(images, reconstructions)]
            for criterion, weight in pairs
        ]
        return [_stacked(maps) for maps in zip(*found, strict=True)]


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    """Maps of several criteria, one behind the other at the largest size."""
    size = max((each.shape[-2:] for each in maps), key=prod)
    return torch.cat([resize_maps(each, size) for each in maps])


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(R, B, 1, h, w) → (R, B, 1, H, W), bilinear."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return _upsample(maps.flatten(0, 1), size).unflatten(0, maps.shape[:2])


def _upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
