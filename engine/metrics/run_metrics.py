"""The metrics of a test run, their intervals, counts."""

from collections.abc import Sequence
from typing import Any

from datasets.folders.find import ANOMALOUS, Split
from engine.metrics.bootstrap import Replicates, difference_intervals, intervals
from engine.metrics.collectors import PixelMetrics
from engine.metrics.curves import confusion, image_metrics

Metrics = dict[str, Any]


def run_metrics(
    split: Split,
    scores: Sequence[float],
    pixel: PixelMetrics,
    replicates: Replicates,
    *,
    groups: Sequence[str],
    threshold: float | None,
) -> Metrics:
    """All metrics of scored images, as they are in metrics.json.

    Args:
        split: The images.
        scores: One per image.
        pixel: Pixel metrics, left empty where the split has no masks.
        replicates: Of all metrics that have an interval.
        groups: What the bootstrap draws, one name per image.
        threshold: Learnt on validation images, None if there is none.

    Returns:
        Name → value; None if a class or the masks are missing.
    """
    labels = split.labels
    num_anomalous = labels.count(ANOMALOUS)
    return {
        **image_metrics(labels, scores),
        **pixel.compute(),
        "intervals_95": intervals(replicates),
        "num_images": len(labels),
        "num_normal": len(labels) - num_anomalous,
        "num_anomalous": num_anomalous,
        "num_left_out": split.num_left_out,
        "num_groups": len(set(groups)),
        "threshold": threshold,
        "confusion": confusion(labels, scores, threshold) if threshold is not None else None,
        "aupro_convention": "8-connected regions, FPR up to 0.3, divided by 0.3",
    }


def add_baseline_metrics(
    metrics: Metrics, values: Metrics, of_model: Replicates, of_baseline: Replicates
) -> None:
    """Put ``baseline_*`` and ``difference_*`` beside the model's metrics, with their intervals.

    A difference is that of model less baseline, of each metric that has an interval. In each
    replicate both are measured on the same images: the comparison is a paired one.

    Args:
        metrics: Of the model, see :func:`run_metrics`.
        values: Of the baseline, for images and pixels.
        of_model: Replicates of the model's metrics.
        of_baseline: The same of the baseline's.
    """
    bounds = intervals(of_baseline)
    differences = difference_intervals(of_model, of_baseline)
    metrics |= {f"baseline_{name}": value for name, value in values.items()}
    metrics |= {
        # Without both classes, both are None.
        f"difference_{name}": None if values[name] is None else metrics[name] - values[name]
        for name in differences
    }
    metrics["intervals_95"] |= {f"baseline_{name}": each for name, each in bounds.items()}
    metrics["intervals_95"] |= {f"difference_{name}": each for name, each in differences.items()}
