"""From distance maps to one score per pixel, per image and per volume."""

from collections.abc import Iterable
from statistics import fmean

from torch import Tensor
from torch.nn import functional as F

from models.criteria import resize_maps
from utils.config.values import VolumeReduction

_WINDOW = 8
_TOP_K = 5


def volume_score(scores: Iterable[float], reduction: VolumeReduction) -> float:
    """One anomaly score for a volume, 0 if it has no slices.

    Args:
        scores: Those of its slices.
        reduction: ``max``, ``mean``, or ``top_k_mean``, the mean of the five highest.
    """
    highest = sorted(scores, reverse=True)
    count = {"max": 1, "mean": len(highest), "top_k_mean": _TOP_K}[reduction]
    return fmean(highest[:count]) if highest else 0.0


def image_scores(maps: Tensor, reduction: str, multi_hstate_reduction: str) -> Tensor:
    """One anomaly score per image.

    Args:
        maps: (R, B, 1, H, W), R the number of hidden states.
        reduction: Over space, ``mean`` or ``max``; or ``pixelwise_mean_max`` (mean over R, then
            max over space), ``pixelwise_max_mean`` (max over R, then mean over space),
            ``downsample_8x8`` (averages of 8 × 8 pixels, max over R, bilinear back, mean).
        multi_hstate_reduction: Over R, ``mean`` or ``max``; unused by the last three, which
            reduce over R themselves.

    Returns:
        (B,) scores; higher is more anomalous.
    """
    if reduction in ("mean", "max"):
        per_state = _reduce(maps.flatten(2), reduction, dim=2)  # (R, B)
        return _reduce(per_state, multi_hstate_reduction, dim=0)
    scores = pixel_scores(maps, reduction, multi_hstate_reduction).flatten(1)  # (B, H·W)
    return _reduce(scores, "max" if reduction == "pixelwise_mean_max" else "mean", dim=1)


def pixel_scores(maps: Tensor, reduction: str, multi_hstate_reduction: str) -> Tensor:
    """One anomaly score per pixel: the reduction over R only.

    Args:
        maps: (R, B, 1, H, W).
        reduction: As for :func:`image_scores`; what it does over space is left out.
        multi_hstate_reduction: Over R, where ``reduction`` is ``mean`` or ``max``.

    Returns:
        (B, H, W).
    """
    maps = maps.squeeze(2)  # (R, B, H, W)
    if reduction == "downsample_8x8":
        coarse = F.avg_pool2d(maps, _WINDOW).amax(dim=0)[None, :, None]
        return resize_maps(coarse, maps.shape[-2:])[0, :, 0]
    over_states = {"pixelwise_mean_max": "mean", "pixelwise_max_mean": "max"}
    return _reduce(maps, over_states.get(reduction, multi_hstate_reduction), dim=0)


def _reduce(values: Tensor, reduction: str, dim: int) -> Tensor:
    return values.mean(dim=dim) if reduction == "mean" else values.amax(dim=dim)
