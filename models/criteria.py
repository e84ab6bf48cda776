"""Criteria: (x, x̂) to distance maps of shape (R, B, 1, h, w), R the number of hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

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
        size = images.shape[-2:]
        return prod(
            (
                resize_maps(self.distance(images, reconstructions, patch_size), size)
                for patch_size in self.patch_sizes[1:]
            ),
            start=resize_maps(self.distance(images, reconstructions, self.patch_sizes[0]), size),
        )

    def distance(self, images: Tensor, reconstructions: Tensor, patch_size: int) -> Tensor:
        """(B, 3, H, W) twice → (R, B, 1, H/patch_size, W/patch_size), one patch size alone."""
        if reconstructions.requires_grad:
            with torch.no_grad():
                targets = self.network(images, patch_size, self.block_indices)
            features = self.network(reconstructions, patch_size, self.block_indices)
        else:
            # Large patches are few: twice as many rows make each product faster.
            both = self.network(
                torch.cat([images, reconstructions]), patch_size, self.block_indices
            )
            targets, features = zip(*(each.unflatten(0, (2, -1)) for each in both), strict=True)
        maps = [
            feature_distance(target, feature, self.metric)
            for target, feature in zip(targets, features, strict=True)
        ]
        return torch.stack(maps).unsqueeze(2)


class SinglePatchPerceptual(MultiPatchPerceptual):
    """The perceptual distance at one patch size, one value a patch."""

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (R, B, 1, H/patch_size, W/patch_size)."""
        return self.distance(images, reconstructions, self.patch_sizes[0])


class PatchEmbeddingDistance(Criterion):
    """Squared difference of the patch embeddings, before positions are added.

    Args:
        network: The perceptual ViT.
        patch_size: One of its patch sizes.
    """

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
    """Several criteria with weights.

    Args:
        criteria: The criteria.
        weights: One weight for each.
    """

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
        maps = self._weighted_maps(images, reconstructions)
        size = max((each.shape[-2:] for each in maps), key=prod)
        return torch.cat([resize_maps(each, size) for each in maps])


def resize_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """(R, B, 1, h, w) → (R, B, 1, H, W), bilinear."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return _upsample(maps.flatten(0, 1), size).unflatten(0, maps.shape[:2])


def _upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
