"""The metrics of a test run, their intervals, counts."""

from collections.abc import Sequence
from typing import Any

from datasets.folders.find import ANOMALOUS, Split
from engine.metrics.bootstrap import difference_intervals, intervals, score_replicates
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
    replicates = score_replicates(labels, scores, groups, seed=seed) | pixel.replicates()
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
    metrics: Metrics,
    labels: Sequence[int],
    groups: Sequence[str],
    model: tuple[Sequence[float], PixelMetrics],
    baseline: tuple[Sequence[float], PixelMetrics],
    *,
    seed: int,
) -> None:
    """Put ``baseline_*`` and ``difference_*`` beside the model's metrics, with their intervals.

    A difference is that of model less baseline, of each metric that has an interval. In each
    replicate both are measured on the same images: the comparison is a paired one.

    Args:
        metrics: Of the model, see :func:`run_metrics`.
        labels: One per image.
        groups: What the bootstrap draws, one name per image.
        model: Its scores, one per image, and its pixel metrics.
        baseline: The same of the baseline.
        seed: Seed of the bootstrap, that of the pixel metrics.
    """
    of_model, of_baseline = (
        score_replicates(labels, scores, groups, seed=seed) | pixel.replicates()
        for scores, pixel in (model, baseline)
    )
    values = image_metrics(labels, baseline[0]) | baseline[1].compute()
    bounds = intervals(of_baseline)
    differences = difference_intervals(of_model, of_baseline)
    metrics |= {f"baseline_{name}": value for name, value in values.items()}
    metrics |= {f"difference_{name}": _less(metrics[name], values[name]) for name in differences}
    metrics["intervals_95"] |= {f"baseline_{name}": each for name, each in bounds.items()}
    metrics["intervals_95"] |= {f"difference_{name}": each for name, each in differences.items()}


def _less(model: float | None, baseline: float | None) -> float | None:
    return None if model is None or baseline is None else model - baseline
