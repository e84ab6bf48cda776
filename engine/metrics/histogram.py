"""Counts of scores by class, gathered batch by batch: all that threshold metrics need.

Few scores are kept as they are, so small sets give exact curves. Beyond :data:`EXACT_LIMIT` the
scores are counted in bins over the bit pattern of float32, which sorts like the scores once the
sign is folded in. Such bins are relative: they resolve 1e-30 as well as 1e30, and no range has to
be known before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.metrics.bins import Array, PagedBins, ordered_keys, raise_unless_finite, scores_of

EXACT_LIMIT = 1 << 21
"""Number of scores up to which a histogram is exact (8 MB of keys)."""

# With 68 bytes a bin for the counts, the curve and what a metric allocates: below 0.2 GB.
_MAX_BINS = 5 << 19


@dataclass(frozen=True)
class Curve:
    """What is found at each threshold, from the strictest threshold to the loosest.

    Predicted anomalous means score >= threshold. The first point is the origin: threshold
    infinity, nothing found. K counts the thresholds, the origin included.

    Attributes:
        thresholds: (K,) strictly descending scores.
        tp: (K,) anomalous elements at or above the threshold, float64.
        fp: (K,) normal elements at or above the threshold, float64.
        overlap: (K,) sum of the anomalous elements' weights at or above the threshold. With the
            weight 1 / |region| the last value is the number of regions, and the share of it is
            the mean per-region overlap.
    """

    thresholds: Array
    tp: Array
    fp: Array
    overlap: Array

    @classmethod
    def from_counts(
        cls, thresholds: Array, total: Array, anomalous: Array, weights: Array
    ) -> Curve:
        """Accumulate counts a threshold, (K - 1,) each and ordered by descending threshold."""
        tp, fp, overlap = (np.zeros(len(total) + 1) for _ in range(3))
        np.cumsum(anomalous, out=tp[1:])
        np.cumsum(total, out=fp[1:])
        fp -= tp
        np.cumsum(weights, out=overlap[1:])
        infinity = np.array([np.inf], dtype=thresholds.dtype)
        return cls(np.concatenate([infinity, thresholds]), tp, fp, overlap)

    @property
    def anomalous(self) -> float:
        """Number of anomalous elements."""
        return float(self.tp[-1])

    @property
    def normal(self) -> float:
        """Number of normal elements."""
        return float(self.fp[-1])

    @property
    def has_both_classes(self) -> bool:
        """Whether a metric that compares the classes is defined."""
        return self.anomalous > 0 and self.normal > 0


class SortedScores:
    """Scores sorted once, so that curves under many weightings cost a cumulative sum each."""

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        """Sort the scores.

        Args:
            labels: (N,) 0 or False for normal, 1 or True for anomalous.
            scores: (N,) finite scores, compared in their own precision.

        Raises:
            ValueError: The lengths differ, a score is not finite, or a label is neither 0 nor 1.
        """
        label_array, score_array = np.asarray(labels), np.asarray(scores)
        if label_array.ndim != 1 or label_array.shape != score_array.shape:
            shapes = f"{label_array.shape} and {score_array.shape}"
            raise ValueError(f"labels and scores must be lists of one length; found {shapes}")
        if not np.isin(label_array, (0, 1)).all():
            raise ValueError("labels must be 0 (normal) or 1 (anomalous)")
        if not np.issubdtype(score_array.dtype, np.floating):
            score_array = score_array.astype(np.float64)
        raise_unless_finite(score_array)
        self.order = np.argsort(score_array, kind="stable")[::-1]
        self._labels = label_array[self.order].astype(np.float64)
        descending = score_array[self.order]
        # Tied scores share one threshold: only the last element of a run makes a point.
        self._ends = np.flatnonzero(np.append(descending[1:] != descending[:-1], len(descending)))
        self._thresholds = descending[self._ends]

    def curve(self, weights: Array | None = None) -> Curve:
        """Curve of all elements, each counted ``weights`` times, (N,) in the given order."""
        counts = np.ones(len(self.order)) if weights is None else weights[self.order]
        total, anomalous = counts.cumsum()[self._ends], (counts * self._labels).cumsum()[self._ends]
        per_point = np.diff(total, prepend=0.0), np.diff(anomalous, prepend=0.0)
        return Curve.from_counts(self._thresholds, *per_point, np.zeros(len(self._ends)))


class ScoreHistogram:
    """Scores of normal and anomalous elements, streamed, mergeable and picklable.

    Up to ``exact_limit`` scores the curve is that of the float32 scores themselves. Beyond, scores
    that share a bin count as tied. A bin is at most 2^-12 of an octave wide, and 2^-13 of one or
    less while scores occupy fewer than 320 of the 512 octaves of float32.
    """

    _TOTAL, _ANOMALOUS, _WEIGHT = range(3)

    def __init__(self, exact_limit: int = EXACT_LIMIT) -> None:
        self._exact_limit = exact_limit
        self._pending: list[tuple[NDArray[np.uint32], NDArray[np.uint32], Array]] = []
        self._bins: PagedBins | None = None
        self.size = 0

    def update(self, scores: ArrayLike, labels: Array, weights: Array | None = None) -> None:
        """Add a batch.

        Args:
            scores: Finite scores of any shape, rounded to float32.
            labels: Booleans of the same shape, True for anomalous.
            weights: One weight for each anomalous element, in the order of ``scores[labels]``;
                1 / |region| gives per-region overlap. Left out: zeros.

        Raises:
            ValueError: A score is not finite, or shapes differ.
            TypeError: The labels are no booleans.
        """
        self.update_keys(ordered_keys(scores), labels, weights)

    def update_keys(
        self, keys: NDArray[np.uint32], labels: Array, weights: Array | None = None
    ) -> None:
        """:meth:`update` for scores whose :func:`ordered_keys` are known; keeps the array."""
        if labels.dtype != np.bool_:
            raise TypeError(f"labels must be booleans; found {labels.dtype}")
        if labels.shape != keys.shape:
            raise ValueError(f"labels {labels.shape} and scores {keys.shape} differ in shape")
        anomalous = keys[labels]
        if weights is None:
            weights = np.zeros(len(anomalous))
        if weights.shape != anomalous.shape:
            raise ValueError(f"found {weights.shape} weights for {len(anomalous)} anomalous scores")
        self._take(keys.ravel(), anomalous, weights)

    def merge(self, other: ScoreHistogram) -> None:
        """Add all that another histogram has seen."""
        for part in other._pending:
            self._take(*part)
        if other._bins is not None:
            self.size += other.size
            self._folded().merge(other._bins)

    def curve(self) -> Curve:
        """Cumulative counts by descending threshold; thresholds are float32."""
        return self._exact_curve() if self._bins is None else self._binned_curve(self._bins)

    def _take(
        self, keys: NDArray[np.uint32], anomalous: NDArray[np.uint32], weights: Array
    ) -> None:
        self.size += len(keys)
        # Whether scores are folded depends on their number alone, not on order or split.
        if self.size <= self._exact_limit:
            self._pending.append((keys, anomalous, weights))
        else:
            self._count(self._folded(), keys, anomalous, weights)

    def _folded(self) -> PagedBins:
        if self._bins is None:
            self._bins = PagedBins(3, _MAX_BINS)
            for keys, _, _ in self._pending:
                self._bins.reserve(keys)
            for part in self._pending:
                self._count(self._bins, *part)
            self._pending = []
        return self._bins

    def _count(
        self,
        bins: PagedBins,
        keys: NDArray[np.uint32],
        anomalous: NDArray[np.uint32],
        weights: Array,
    ) -> None:
        bins.add(self._TOTAL, keys)
        bins.add(self._ANOMALOUS, anomalous)
        bins.add(self._WEIGHT, anomalous, weights)

    def _exact_curve(self) -> Curve:
        empty = np.zeros(0, dtype=np.uint32)
        keys = np.concatenate([empty, *(part[0] for part in self._pending)])
        anomalous = np.concatenate([empty, *(part[1] for part in self._pending)])
        weights = np.concatenate([np.zeros(0), *(part[2] for part in self._pending)])
        distinct, total = np.unique(keys, return_counts=True)
        place = np.searchsorted(distinct, anomalous)
        found = np.bincount(place, minlength=len(distinct))
        overlap = np.bincount(place, weights=weights, minlength=len(distinct))
        parts = (scores_of(distinct), total, found, overlap)
        return Curve.from_counts(*(part[::-1] for part in parts))

    def _binned_curve(self, bins: PagedBins) -> Curve:
        total = bins.descending(self._TOTAL)
        used = total > 0
        anomalous, weights = (bins.descending(row)[used] for row in (self._ANOMALOUS, self._WEIGHT))
        return Curve.from_counts(bins.thresholds()[used], total[used], anomalous, weights)
