"""The metrics of a test run, their intervals, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets.folders.find import ANOMALOUS, Split
from engine.metrics.curves import PixelMetrics, confusion, image_intervals, image_metrics

Metrics = dict[str, Any]

_PIXEL_NAMES = (
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "pixel_f1_threshold",
    "pixel_dice_max",
    "pixel_aupro",
    "pixel_sensitivity_at_95_specificity",
)


def run_metrics(
    split: Split,
    scores: Sequence[float],
    pixel: PixelMetrics | None,
    *,
    groups: Sequence[str],
    threshold: float | None,
    seed: int,
) -> Metrics:
    """All metrics of scored images, as metrics.json holds them.

    Args:
        split: The images.
        scores: One per image.
        pixel: Filled pixel metrics, None where the split has no masks.
        groups: What the bootstrap draws, one name per image.
        threshold: Learnt on validation images, None where there is none.
        seed: Seed of the bootstrap.

    Returns:
        Name → value; None where a class or the masks are missing.
    """
    labels = split.labels
    metrics: Metrics = dict(image_metrics(labels, scores))
    metrics |= pixel.compute() if pixel else dict.fromkeys(_PIXEL_NAMES)
    intervals: dict[str, Any] = dict(image_intervals(labels, scores, groups, seed=seed))
    if pixel:
        intervals |= pixel.intervals()
    num_anomalous = sum(label == ANOMALOUS for label in labels)
    return metrics | {
        "intervals_95": intervals,
        "num_images": len(labels),
        "num_normal": len(labels) - num_anomalous,
        "num_anomalous": num_anomalous,
        "num_left_out": split.num_left_out,
        "num_groups": len(set(groups)),
        "threshold": threshold,
        "confusion": confusion(labels, scores, threshold) if threshold is not None else None,
        "aupro_convention": "8-connected regions, FPR up to 0.3, divided by 0.3",
    }
