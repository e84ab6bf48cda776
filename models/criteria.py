"""Criteria: (x, x̂) to distance maps of shape (R, B, 1, h, w), R the number of hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from pytorch_msssim import ms_ssim
from pytorch_msssim.ssim import _fspecial_gauss_1d, gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

from models.distances import at_least_fp32, feature_distance
from models.perceptual import PerceptualResNet, PerceptualViT
from utils.normalisation import PIXEL_MEAN, PIXEL_STD

SSIM_WINDOW = 7


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
            targets, features = zip(*(each.chunk(2) for each in both), strict=True)
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


class ResNetPerceptual(Criterion):
    """Distance of a ResNet's stages, resized to the largest and averaged.

    Args:
        network: The perceptual ResNet.
        metric: A key of :data:`models.distances.DISTANCES`, or ``content+style``: the mean
            squared difference plus that of the Gram matrices (Gatys et al., arXiv 1508.06576),
            the latter one number an image.
    """

    def __init__(self, network: PerceptualResNet, metric: str) -> None:
        super().__init__()
        self.network = network
        self.metric = metric

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (1, B, 1, H/4, W/4)."""
        with torch.no_grad():
            targets = self.network(images)
        features = self.network(reconstructions)
        maps = [
            self._distance(at_least_fp32(target), at_least_fp32(feature))[:, None]
            for target, feature in zip(targets, features, strict=True)
        ]
        size = maps[0].shape[-2:]
        return torch.stack([_upsample(stage, size) for stage in maps]).mean(dim=0, keepdim=True)

    def _distance(self, target: Tensor, feature: Tensor) -> Tensor:
        if self.metric != "content+style":
            return feature_distance(target, feature, self.metric)
        style = (_gram(target) - _gram(feature)).square().mean(dim=(1, 2))
        return feature_distance(target, feature, "L2") + style[:, None, None]


def _gram(features: Tensor) -> Tensor:
    """(B, C, h, w) → (B, C, C), averaged over positions."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


class PixelDistance(Criterion):
    """A distance over the three channels of each pixel.

    Args:
        metric: A key of :data:`models.distances.DISTANCES`.
    """

    def __init__(self, metric: str) -> None:
        super().__init__()
        self.metric = metric

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (1, B, 1, H, W)."""
        return feature_distance(images, reconstructions, self.metric)[None, :, None]


class StructuralDissimilarity(Criterion):
    """1 − SSIM at each pixel, Gaussian window of 7 (Wang et al. 2004), on intensities in [0, 1]."""

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice → (1, B, 1, H, W)."""
        x, y = _intensities(images), _intensities(reconstructions)
        window = _fspecial_gauss_1d(SSIM_WINDOW, 1.5).to(x).repeat(3, 1, 1, 1)

        def local_mean(values: Tensor) -> Tensor:
            padded = F.pad(values, [SSIM_WINDOW // 2] * 4, mode="reflect")
            return gaussian_filter(padded, window)

        mean_x, mean_y = local_mean(x), local_mean(y)
        variance_x = local_mean(x * x) - mean_x.square()
        variance_y = local_mean(y * y) - mean_y.square()
        covariance = local_mean(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (variance_x + variance_y + 0.03**2)
        return (1 - luminance * structure).mean(dim=1)[None, :, None]


class MultiScaleDissimilarity(Criterion):
    """1 − MS-SSIM (pytorch-msssim, window 7): one number an image, spread over its map."""

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """(B, 3, H, W) twice, H and W above 96 → (1, B, 1, H, W)."""
        similarity = ms_ssim(
            _intensities(images),
            _intensities(reconstructions),
            data_range=1.0,
            size_average=False,
            win_size=SSIM_WINDOW,
        )
        per_image = (1 - similarity)[None, :, None, None, None]
        return per_image.expand(-1, -1, -1, *images.shape[-2:])


def _intensities(images: Tensor) -> Tensor:
    return at_least_fp32(images) * PIXEL_STD + PIXEL_MEAN


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
