"""Metrics of anomaly detection: pure functions on curves, labels and scores."""

import logging
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.metrics.bins import Array
from engine.metrics.histogram import Curve, SortedScores

logger = logging.getLogger(__name__)

FPR_LIMIT = 0.3
"""False-positive rate up to which AUPRO integrates (Bergmann et al., 2021)."""

Metric = Callable[[Curve], float]
"""A metric that compares the classes: its curve has both."""


def auroc(curve: Curve) -> float:
    """Area under the ROC curve by trapezoids, 0 to 1: tied scores count half."""
    return _area(curve.fp, curve.tp) / (curve.anomalous * curve.normal)


def average_precision(curve: Curve) -> float:
    """Average precision, 0 to 1: sum of precision times the step in recall, not interpolated."""
    found = curve.tp[1:] + curve.fp[1:]
    # Nothing is found yet at the first thresholds of a replicate that leaves elements out.
    precision = np.divide(curve.tp[1:], found, out=found, where=found > 0)
    return float(np.dot(np.diff(curve.tp), precision)) / curve.anomalous


def best_f1(curve: Curve) -> tuple[float, float]:
    """Highest F1 over all thresholds, 0 to 1, and the highest threshold that reaches it."""
    half = curve.tp + curve.fp
    half += curve.anomalous
    np.divide(curve.tp, half, out=half)
    best = int(np.argmax(half))
    return 2.0 * float(half[best]), float(curve.thresholds[best])


def f1_max(curve: Curve) -> float:
    """Highest F1 over all thresholds, 0 to 1."""
    return best_f1(curve)[0]


def sensitivity_at_95_specificity(curve: Curve) -> float:
    """Highest sensitivity, 0 to 1, at a threshold with a specificity of at least 0.95."""
    # Divided as 0.95 was rounded, so that 19 of 20 is exactly that.
    allowed = (curve.normal - curve.fp) / curve.normal >= 0.95
    return float(curve.tp[np.count_nonzero(allowed) - 1]) / curve.anomalous


def aupro(curve: Curve) -> float:
    """Area under mean per-region overlap over the false-positive rate, over the limit: 0 to 1.

    The curve is interpolated linearly at :data:`FPR_LIMIT`.
    """
    limit = FPR_LIMIT * curve.normal
    end = int(np.searchsorted(curve.fp, limit, side="right"))
    area = _area(curve.fp[:end], curve.overlap[:end])
    # At the limit there is always a point beyond it: all normal elements are found at last.
    (left, right), (low, high) = curve.fp[end - 1 : end + 1], curve.overlap[end - 1 : end + 1]
    at_limit = low + (high - low) * (limit - left) / (right - left)
    area += (limit - left) * (low + at_limit) / 2
    return float(area / (limit * float(curve.overlap[-1])))


def _area(x: Array, y: Array) -> float:
    """Trapezoid rule, without the copies that numpy's own makes of long curves."""
    steps = np.diff(x)
    return float(np.dot(steps, y[1:]) + np.dot(steps, y[:-1])) / 2


def region_weights(mask: NDArray[np.bool_]) -> Array:
    """1 / |region| for each anomalous pixel of a (H, W) mask, in raster order.

    Regions are 8-connected. A region's weights add up to 1, so the sum of the weights at or
    above a threshold, over the number of regions, is the mean per-region overlap.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return 1.0 / stats[labels[mask], cv2.CC_STAT_AREA]


def threshold_metrics(curve: Curve, kind: str) -> dict[str, float | None]:
    """The metrics of scores of one level; all None, with a warning, if a class is missing.

    Args:
        curve: Any curve; without a single element there is no warning.
        kind: ``image``, ``pixel``, ``volume`` or ``patient``, the prefix of the names.
    """
    names = ("auroc", "ap", "f1_max", "f1_threshold", "sensitivity_at_95_specificity")
    values: tuple[float | None, ...] = (None,) * len(names)
    if curve.has_both_classes:
        sensitivity = sensitivity_at_95_specificity(curve)
        values = (auroc(curve), average_precision(curve), *best_f1(curve), sensitivity)
    elif curve.normal or curve.anomalous:
        missing = "anomalous" if curve.normal else "normal"
        logger.warning("%s metrics are undefined: there is no %s %s", kind, missing, kind)
    return {f"{kind}_{name}": value for name, value in zip(names, values, strict=True)}


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float | None]:
    """Exact metrics of image scores.

    Args:
        labels: (N,) 0 for normal, 1 for anomalous.
        scores: (N,) finite scores, higher for anomalous.

    Returns:
        ``image_auroc``, ``image_ap``, ``image_f1_max``, ``image_f1_threshold`` and
        ``image_sensitivity_at_95_specificity``; None, with a warning, if a class is missing.

    Raises:
        ValueError: A score is not finite.
    """
    return threshold_metrics(SortedScores(labels, scores).curve(), "image")


def confusion(
    labels: ArrayLike, scores: ArrayLike, threshold: float
) -> dict[str, int | float | None]:
    """Counts and rates at one threshold; predicted anomalous means score >= threshold.

    The threshold has to come from validation data: one chosen on the test set is too optimistic.

    Returns:
        ``tp, fp, tn, fn`` as counts; ``sensitivity, specificity, precision, f1, accuracy,
        balanced_accuracy`` from 0 to 1, None if the denominator is 0.
    """
    anomalous = np.asarray(labels, dtype=np.bool_)
    predicted = np.asarray(scores) >= threshold
    tp, fp = (int(np.sum(predicted & of_class)) for of_class in (anomalous, ~anomalous))
    fn, tn = int(np.sum(anomalous)) - tp, int(np.sum(~anomalous)) - fp
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    balanced = None
    if sensitivity is not None and specificity is not None:
        balanced = (sensitivity + specificity) / 2
    return {
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": _ratio(tp, tp + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "accuracy": _ratio(tp + tn, len(anomalous)),
        "balanced_accuracy": balanced,
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
