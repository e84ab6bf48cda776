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

from engine.metrics.bins import Array, Keys, PagedBins, raise_unless_finite, scores_of

EXACT_LIMIT = 1 << 21
"""Number of scores up to which a histogram is exact (8 MB of keys)."""

# With 68 bytes a bin for the counts, the curve and what a metric allocates: below 0.2 GB.
_MAX_BINS = 5 << 19


@dataclass(frozen=True)
class Curve:
    """What is found at each threshold, from the strictest threshold to the loosest.

    Predicted anomalous means score >= threshold. The first point is the origin: threshold
    infinity, nothing found. K counts the thresholds, the origin included.
    """

    thresholds: Array  # (K,) strictly descending scores
    tp: Array  # (K,) anomalous elements at or above the threshold, float64
    fp: Array  # (K,) normal elements at or above the threshold, float64
    # (K,) sum of the anomalous elements' weights at or above the threshold. With the weight 1 /
    # |region| the last value is the number of regions, and the share of it is the mean per-region
    # overlap.
    overlap: Array

    @classmethod
    def from_counts(
        cls, thresholds: Array, total: Array, anomalous: Array, weights: Array
    ) -> Curve:
        """Accumulate counts of each threshold, (K - 1,) each, by descending threshold."""
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
    """Scores sorted once, so that curves under many weightings cost a sum each.

    Args:
        labels: (N,) 0 or False for normal, 1 or True for anomalous.
        scores: (N,), compared in double precision.

    Raises:
        ValueError: A score is not finite.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        values = np.asarray(scores, dtype=np.float64)
        raise_unless_finite(values)
        self._labels = np.asarray(labels, dtype=np.bool_)
        self._distinct, self._place = np.unique(values, return_inverse=True)

    def curve(self, weights: Array | None = None) -> Curve:
        """Curve of all elements, each counted ``weights`` times, (N,), or once."""
        weights = np.ones(len(self._place)) if weights is None else weights
        total, anomalous = (
            np.bincount(self._place, counts, len(self._distinct))[::-1]
            for counts in (weights, weights * self._labels)
        )
        return Curve.from_counts(self._distinct[::-1], total, anomalous, np.zeros(len(total)))


class ScoreHistogram:
    """Scores of normal and anomalous elements, streamed, mergeable and picklable.

    Up to ``exact_limit`` scores the curve is that of the float32 scores themselves. Beyond, scores
    that share a bin count as tied. A bin is at most 2^-12 of an octave wide, and 2^-13 of one or
    less while scores occupy fewer than 320 of the 512 octaves of float32.
    """

    _TOTAL, _ANOMALOUS, _WEIGHT = range(3)

    def __init__(self, exact_limit: int = EXACT_LIMIT) -> None:
        self._exact_limit = exact_limit
        # Keys of all scores, keys of the anomalous ones, weights of those.
        no_keys = np.zeros(0, dtype=np.uint32)
        self._pending: list[tuple[Keys, Keys, Array]] = [(no_keys, no_keys, np.zeros(0))]
        self._bins: PagedBins | None = None
        self.size = 0

    def update(self, keys: Keys, labels: NDArray[np.bool_], weights: Array | None = None) -> None:
        """Add a batch; the keys are kept, not copied.

        Args:
            keys: :func:`engine.metrics.bins.ordered_keys` of scores of any shape.
            labels: Of the same shape, True for anomalous.
            weights: One weight for each anomalous element, in the order of ``keys[labels]``;
                1 / |region| gives per-region overlap. Left out: zeros.
        """
        anomalous = keys[labels]
        weights = np.zeros(len(anomalous)) if weights is None else weights
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

    def _take(self, keys: Keys, anomalous: Keys, weights: Array) -> None:
        self.size += len(keys)
        # Whether scores are folded depends only on their number, not on order or split.
        self._pending.append((keys, anomalous, weights))
        if self.size > self._exact_limit:
            self._folded()

    def _folded(self) -> PagedBins:
        """The bins, with all that is pending counted in them."""
        if self._bins is None:
            self._bins = PagedBins(3, _MAX_BINS)
        for keys, anomalous, weights in self._pending:
            self._bins.add(self._TOTAL, keys)
            self._bins.add(self._ANOMALOUS, anomalous)
            self._bins.add(self._WEIGHT, anomalous, weights)
        self._pending = []
        return self._bins

    def _exact_curve(self) -> Curve:
        keys, anomalous, weights = map(np.concatenate, zip(*self._pending, strict=True))
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
