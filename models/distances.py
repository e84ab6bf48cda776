"""Distances between two images or feature tensors, for each place or for the whole."""

from collections.abc import Callable

import torch
from pytorch_msssim import ms_ssim, ssim
from torch import Tensor
from torch.nn import functional as F

Distance = Callable[[Tensor, Tensor], Tensor]


def _cosine(features: Tensor, other: Tensor) -> Tensor:
    # Equal features may round to a similarity above 1.
    return (1 - F.cosine_similarity(features, other, dim=1)).clamp_min(0)


def _squared(features: Tensor, other: Tensor) -> Tensor:
    return (features - other).square().mean(dim=1)


def _absolute(features: Tensor, other: Tensor) -> Tensor:
    return (features - other).abs().mean(dim=1)


def _total(distance: Distance) -> Distance:
    """The distance of all features as one vector: one number per image."""
    return lambda one, other: _spread(distance(one.flatten(1), other.flatten(1)), one)


def _content_and_style(features: Tensor, other: Tensor) -> Tensor:
    """Gatys et al., arXiv 1508.06576, with the mean in place of the sum."""
    style = (_gram(features) - _gram(other)).square().mean(dim=(1, 2))
    return _total(_squared)(features, other) + _spread(style, features)


def _gram(features: Tensor) -> Tensor:
    """(B, C, h, w) → (B, C, C), averaged over positions."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[-1]


def _ssim(images: Tensor, others: Tensor) -> Tensor:
    """Wang et al. 2004; normalised values span more than 1, as in published configs' runs."""
    similarity = ssim(images, others, data_range=1.0, size_average=False, win_size=7)
    return _spread(1 - similarity, images)


def _ms_ssim(images: Tensor, others: Tensor) -> Tensor:
    return _spread(1 - ms_ssim(images, others, data_range=1.0, size_average=False), images)


def _spread(per_image: Tensor, features: Tensor) -> Tensor:
    """(B,) → (B, h, w), the same number everywhere."""
    return per_image[:, None, None].expand(-1, *features.shape[-2:])


DISTANCES: dict[str, Distance] = {
    "cosine": _cosine,
    "L2": _squared,
    "L1": _absolute,
    "L1tot": _total(_absolute),
    "L2tot": _total(_squared),
    "cosinetot": _total(_cosine),
    "content+style": _content_and_style,
    "SSIM": _ssim,
    "MS_SSIM": _ms_ssim,
}


def feature_distance(features: Tensor, other: Tensor, metric: str) -> Tensor:
    """Distance map of two feature maps or images, computed in fp32 or better, autocast or not.

    In bf16 the difference of two close tensors is noise.

    Args:
        features: (B, C, h, w).
        other: (B, C, h, w).
        metric: ``cosine`` (1 − cos over channels), ``L2`` or ``L1`` (mean over channels); or one
            number per image, spread over its map: ``cosinetot``, ``L2tot``, ``L1tot``,
            ``content+style`` (L2tot plus the mean squared difference of the Gram matrices), and
            ``SSIM`` and ``MS_SSIM`` (1 − the similarity; the latter of sides above 160).

    Returns:
        (B, h, w), from 0 up.
    """
    with torch.autocast(features.device.type, enabled=False):
        return DISTANCES[metric](_at_least_fp32(features), _at_least_fp32(other))


def _at_least_fp32(values: Tensor) -> Tensor:
    """Half precision widened to fp32; fp32 and fp64 as they are."""
    return values.float() if values.element_size() < 4 else values
