"""Metrics of anomaly detection: pure functions on curves, and their streaming over pixels.

A metric that compares normal with anomalous elements is None where one of the two is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from engine.metrics.bins import Array, ordered_keys
from engine.metrics.bootstrap import Interval, PixelBootstrap, Statistic, group_intervals
from engine.metrics.histogram import Curve, ScoreHistogram, SortedScores

logger = logging.getLogger(__name__)

FPR_LIMIT = 0.3
"""False-positive rate up to which AUPRO integrates (Bergmann et al., 2021)."""


def auroc(curve: Curve) -> float | None:
    """Area under the ROC curve by trapezoids, 0 to 1: tied scores count half."""
    if not curve.has_both_classes:
        return None
    return _area(curve.fp, curve.tp) / (curve.anomalous * curve.normal)


def average_precision(curve: Curve) -> float | None:
    """Average precision, 0 to 1: sum of precision times the step in recall, not interpolated."""
    if not curve.has_both_classes:
        return None
    found = curve.tp[1:] + curve.fp[1:]
    # Nothing is found yet at the first thresholds of a replicate that leaves elements out.
    precision = np.divide(curve.tp[1:], found, out=found, where=found > 0)
    return float(np.dot(np.diff(curve.tp), precision)) / curve.anomalous


def best_f1(curve: Curve) -> tuple[float | None, float | None]:
    """Highest F1 over all thresholds, 0 to 1, and the highest threshold that reaches it."""
    if not curve.has_both_classes:
        return None, None
    half = curve.tp + curve.fp
    half += curve.anomalous
    np.divide(curve.tp, half, out=half)
    best = int(np.argmax(half))
    return 2.0 * float(half[best]), float(curve.thresholds[best])


def f1_max(curve: Curve) -> float | None:
    """Highest F1 over all thresholds, 0 to 1."""
    return best_f1(curve)[0]


def sensitivity_at_specificity(curve: Curve, specificity: float = 0.95) -> float | None:
    """Highest sensitivity, 0 to 1, at a threshold of at least this specificity."""
    if not curve.has_both_classes:
        return None
    # Divided as the given number was rounded, so that 19 of 20 is exactly 0.95.
    allowed = (curve.normal - curve.fp) / curve.normal >= specificity
    return float(curve.tp[np.count_nonzero(allowed) - 1]) / curve.anomalous


def aupro(curve: Curve, fpr_limit: float = FPR_LIMIT) -> float | None:
    """Area under mean per-region overlap over the false-positive rate, over the limit: 0 to 1.

    The curve is interpolated linearly at the limit. None also where the curve has no weights.

    Raises:
        ValueError: The limit is not above 0 and at most 1.
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit must be above 0 and at most 1; found {fpr_limit}")
    regions = float(curve.overlap[-1])
    if not curve.has_both_classes or regions <= 0:
        return None
    limit = fpr_limit * curve.normal
    end = int(np.searchsorted(curve.fp, limit, side="right"))
    area = _area(curve.fp[:end], curve.overlap[:end])
    if end < len(curve.fp):
        (left, right), (low, high) = curve.fp[end - 1 : end + 1], curve.overlap[end - 1 : end + 1]
        at_limit = low + (high - low) * (limit - left) / (right - left)
        area += (limit - left) * (low + at_limit) / 2
    return float(area / (limit * regions))


def _area(x: Array, y: Array) -> float:
    """Trapezoid rule, without the copies that numpy's own makes of long curves."""
    steps = np.diff(x)
    return float(np.dot(steps, y[1:]) + np.dot(steps, y[:-1])) / 2


def region_weights(mask: Array) -> Array:
    """1 / |region| for each anomalous pixel of a (H, W) boolean mask, in raster order.

    Regions are 8-connected. A region's weights add up to 1, hence the sum of the weights at or
    above a threshold, over the number of regions, is the mean per-region overlap.
    """
    if not mask.any():
        return np.zeros(0)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return 1.0 / stats[labels[mask], cv2.CC_STAT_AREA]


_INTERVALS: Mapping[str, Statistic] = {
    "auroc": auroc,
    "ap": average_precision,
    "f1_max": f1_max,
}


def _threshold_metrics(curve: Curve, prefix: str) -> dict[str, float | None]:
    if not curve.has_both_classes:
        missing = "anomalous" if curve.normal else "normal"
        logger.warning("%s metrics are undefined: there is no %s %s", prefix, missing, prefix)
    f1, threshold = best_f1(curve)
    return {
        f"{prefix}_auroc": auroc(curve),
        f"{prefix}_ap": average_precision(curve),
        f"{prefix}_f1_max": f1,
        f"{prefix}_f1_threshold": threshold,
        f"{prefix}_sensitivity_at_95_specificity": sensitivity_at_specificity(curve),
    }


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float | None]:
    """Exact metrics of image scores.

    Args:
        labels: (N,) 0 for normal, 1 for anomalous.
        scores: (N,) finite scores, higher for anomalous.

    Returns:
        ``image_auroc``, ``image_ap``, ``image_f1_max``, ``image_f1_threshold`` and
        ``image_sensitivity_at_95_specificity``; None, with a warning, where a class is missing.

    Raises:
        ValueError: Lengths differ, a score is not finite, or a label is neither 0 nor 1.
    """
    return _threshold_metrics(SortedScores(labels, scores).curve(), "image")


def image_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[str],
    *,
    seed: int = 0,
    replicates: int = 1000,
) -> dict[str, Interval]:
    """95 % intervals of ``image_auroc``, ``image_ap`` and ``image_f1_max``.

    Arguments and errors are those of :func:`engine.metrics.bootstrap.group_intervals`.
    """
    statistics = {f"image_{name}": statistic for name, statistic in _INTERVALS.items()}
    return group_intervals(labels, scores, groups, statistics, seed=seed, replicates=replicates)


def confusion(
    labels: ArrayLike, scores: ArrayLike, threshold: float
) -> dict[str, int | float | None]:
    """Counts and rates at one threshold; predicted anomalous means score >= threshold.

    The threshold has to come from validation data: one chosen on the test set flatters.

    Returns:
        ``tp, fp, tn, fn`` as counts; ``sensitivity, specificity, precision, f1, accuracy,
        balanced_accuracy`` from 0 to 1, None where the denominator is 0.

    Raises:
        ValueError: Lengths differ, or a score or the threshold is NaN.
    """
    anomalous, values = np.asarray(labels).astype(bool), np.asarray(scores)
    if anomalous.shape != values.shape:
        raise ValueError(f"found {anomalous.shape} labels for {values.shape} scores")
    if np.isnan(values).any() or np.isnan(threshold):
        raise ValueError("a score or the threshold is NaN")
    predicted = values >= threshold
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
        "accuracy": _ratio(tp + tn, len(values)),
        "balanced_accuracy": balanced,
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


class PixelMetrics:
    """Pixel metrics over all images, normal ones included, without holding the maps.

    Instances of several processes are merged; they are picklable.
    """

    def __init__(self, seed: int = 0, replicates: int = 200) -> None:
        """Start with nothing seen.

        Args:
            seed: Seed of the bootstrap.
            replicates: Replicates of the bootstrap; 0 leaves intervals out.
        """
        self._histogram = ScoreHistogram()
        self._bootstrap = PixelBootstrap(seed, replicates)

    def update(self, anomaly_maps: Array, masks: Array, groups: Sequence[str]) -> None:
        """Add a batch.

        Args:
            anomaly_maps: (B, H, W) finite scores, higher for anomalous, counted as float32.
            masks: (B, H, W) booleans, True for anomalous.
            groups: B names of images or patients: what the bootstrap draws.

        Raises:
            ValueError: Shapes differ, or a score is not finite.
            TypeError: The masks are no booleans.
        """
        if anomaly_maps.ndim != 3 or masks.shape != anomaly_maps.shape:
            shapes = f"{anomaly_maps.shape} and {masks.shape}"
            raise ValueError(f"maps and masks must both be (B, H, W); found {shapes}")
        if len(groups) != len(anomaly_maps):
            raise ValueError(f"found {len(groups)} groups for {len(anomaly_maps)} maps")
        if not len(anomaly_maps):
            return
        if masks.dtype != np.bool_:
            raise TypeError(f"masks must be booleans; found {masks.dtype}")
        keys = ordered_keys(anomaly_maps)
        weights = [region_weights(mask) for mask in masks]
        self._histogram.update_keys(keys, masks, np.concatenate(weights))
        self._bootstrap.update(keys, masks, weights, groups)

    def merge(self, other: PixelMetrics) -> None:
        """Add all that another instance of the same seed and replicates has seen."""
        self._bootstrap.merge(other._bootstrap)
        self._histogram.merge(other._histogram)

    def compute(self) -> dict[str, float | None]:
        """Metrics by name; None, with a warning, where a class is missing.

        ``pixel_dice_max`` is Dice pooled over all pixels, which is F1 by definition.
        """
        curve = self._histogram.curve()
        metrics = _threshold_metrics(curve, "pixel")
        return metrics | {"pixel_dice_max": metrics["pixel_f1_max"], "pixel_aupro": aupro(curve)}

    def intervals(self) -> dict[str, Interval]:
        """95 % intervals of ``pixel_auroc, pixel_ap, pixel_f1_max, pixel_aupro``.

        Each is [low, high], or None where it is undefined or without replicates.
        """
        statistics = {f"pixel_{name}": statistic for name, statistic in _INTERVALS.items()}
        return self._bootstrap.intervals(statistics | {"pixel_aupro": aupro})
