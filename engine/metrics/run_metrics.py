"""The metrics of a test run, their intervals, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets.folders.find import ANOMALOUS, Split
from engine.metrics.bootstrap import score_intervals
from engine.metrics.collectors import PixelMetrics
from engine.metrics.curves import confusion, image_metrics

Metrics = dict[str, Any]


def run_metrics(
    split: Split,
    scores: Sequence[float],
    pixel: PixelMetrics,
    *,
    groups: Sequence[str],
    threshold: float | None,
    seed: int,
) -> Metrics:
    """All metrics of scored images, as metrics.json holds them.

    Args:
        split: The images.
        scores: One per image.
        pixel: Pixel metrics, left empty where the split has no masks.
        groups: What the bootstrap draws, one name per image.
        threshold: Learnt on validation images, None where there is none.
        seed: Seed of the bootstrap.

    Returns:
        Name → value; None where a class or the masks are missing.
    """
    labels = split.labels
    num_anomalous = labels.count(ANOMALOUS)
    return {
        **image_metrics(labels, scores),
        **pixel.compute(),
        "intervals_95": score_intervals(labels, scores, groups, seed=seed) | pixel.intervals(),
        "num_images": len(labels),
        "num_normal": len(labels) - num_anomalous,
        "num_anomalous": num_anomalous,
        "num_left_out": split.num_left_out,
        "num_groups": len(set(groups)),
        "threshold": threshold,
        "confusion": confusion(labels, scores, threshold) if threshold is not None else None,
        "aupro_convention": "8-connected regions, FPR up to 0.3, divided by 0.3",
    }
