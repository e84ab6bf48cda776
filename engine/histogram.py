"""Counts of scores by class, gathered batch by batch: all that threshold metrics need.

Few scores are kept as they are, so small sets give exact curves. Beyond :data:`EXACT_LIMIT` the
scores are counted in bins over the bit pattern of float32, which sorts like the scores once the
sign is folded in. Such bins are relative: they resolve 1e-30 as well as 1e30, and no range has to
be known before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]

EXACT_LIMIT = 1 << 21
"""Number of scores up to which a histogram is exact (8 MB of keys)."""

# With 68 bytes a bin for the counts, the curve and what a metric allocates: below 0.2 GB.
_MAX_BINS = 5 << 19
# A page is an eighth of an octave, so page borders fall on octave borders.
_PAGE_BITS = 20
_PAGES = 1 << (32 - _PAGE_BITS)
# Keys are counted in pieces that stay in a core's cache.
_PIECE = 1 << 16
_SIGN = np.uint32(1 << 31)


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
        _raise_unless_finite(score_array)
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


def _raise_unless_finite(scores: Array) -> None:
    if not np.isfinite(scores).all():
        count = int(np.count_nonzero(~np.isfinite(scores)))
        raise ValueError(f"{count} of {scores.size} scores are not finite as {scores.dtype}")


def ordered_keys(scores: ArrayLike) -> NDArray[np.uint32]:
    """Whole numbers that sort like the scores.

    Args:
        scores: Any shape; rounded to float32.

    Returns:
        Keys of the same shape. Equal scores have equal keys, -0 and 0 included.

    Raises:
        ValueError: A score is NaN, infinite, or beyond the range of float32.
    """
    with np.errstate(over="ignore"):
        single = np.asarray(scores, dtype=np.float32)
    _raise_unless_finite(single)
    bits = (single + np.float32(0.0)).view(np.int32)  # -0 + 0 is 0
    # Negative numbers sort backwards by their bits: all bits flip. Others: only the sign.
    keys = bits >> 31
    keys |= np.int32(-(1 << 31))
    keys ^= bits
    return keys.view(np.uint32)


def scores_of(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Inverse of :func:`ordered_keys`."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)


class PagedBins:
    """Rows of counts over ordered keys, with memory only for the pages of keys that occur.

    The width of a bin, ``2**shift`` keys, is the smallest with which the pages fit. It depends on
    which pages occur and on nothing else, so neither the order of the scores nor how they were
    split before merging changes a count.

    Attributes:
        counts: (rows, C) float64, whole numbers being exact up to 2^53. Columns are grouped by
            page, in the order in which pages were first seen.
        shift: Number of low bits of a key that its bin ignores, 0 to 20.
    """

    def __init__(self, rows: int, max_bins: int) -> None:
        if max_bins < _PAGES:
            raise ValueError(f"max_bins must be {_PAGES} or more, one for each possible page")
        self.counts = np.zeros((rows, 0))
        self.shift = 0
        self._max_bins = max_bins
        self._pages = np.zeros(0, dtype=np.int64)
        self._first_column = np.full(_PAGES, -1, dtype=np.int64)

    @property
    def _page_columns(self) -> int:
        return 1 << (_PAGE_BITS - self.shift)

    def reserve(self, keys: NDArray[np.uint32]) -> None:
        """Make room for all pages of the keys at once, which saves copies."""
        seen = np.bincount((keys >> np.uint32(_PAGE_BITS)).ravel(), minlength=_PAGES)
        self._open(np.flatnonzero((seen > 0) & (self._first_column < 0)))

    def locate(self, keys: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Column of each key, of the keys' shape; valid until new pages are opened."""
        pages = keys >> np.uint32(_PAGE_BITS)
        columns = self._first_column.take(pages)
        if columns.min(initial=0) < 0:
            self.reserve(keys)
            columns = self._first_column.take(pages)
        columns += (keys & np.uint32((1 << _PAGE_BITS) - 1)) >> np.uint32(self.shift)
        return columns

    def add(self, row: int, keys: NDArray[np.uint32], weights: Array | float = 1.0) -> None:
        """Count (N,) keys in one row, each with its weight."""
        for start in range(0, len(keys), _PIECE):
            piece = slice(start, start + _PIECE)
            columns = self.locate(keys[piece])
            amounts = weights[piece] if isinstance(weights, np.ndarray) else weights
            np.add.at(self.counts[row], columns, amounts)

    def merge(self, other: PagedBins) -> None:
        """Add the counts of bins with the same rows and limit."""
        if len(other._pages) == 0:
            return
        self._open(np.setdiff1d(other._pages, self._pages))
        slots = self._first_column[other._pages] // self._page_columns
        shape = (len(self.counts), -1, self._page_columns)
        self.counts.reshape(shape)[:, slots] += other._coarser(self.shift).reshape(shape)

    def descending(self, row: int) -> Array:
        """(C,) counts of a row from the highest scores to the lowest."""
        pages = self.counts[row].reshape(-1, self._page_columns)
        return pages[np.argsort(-self._pages), ::-1].ravel()

    def thresholds(self) -> NDArray[np.float32]:
        """(C,) lowest score that each bin can hold, in the order of :meth:`descending`."""
        first = np.sort(self._pages)[::-1].astype(np.uint32) << np.uint32(_PAGE_BITS)
        within = np.arange(self._page_columns, dtype=np.uint32)[::-1] << np.uint32(self.shift)
        return scores_of((first[:, None] | within).ravel())

    def _open(self, pages: NDArray[np.int64]) -> None:
        if len(pages) == 0:
            return
        self._pages = np.concatenate([self._pages, pages])
        shift = self.shift
        while len(self._pages) << (_PAGE_BITS - shift) > self._max_bins:
            shift += 1
        kept = self._coarser(shift)
        self.shift = shift
        self.counts = np.zeros((len(kept), len(self._pages) * self._page_columns))
        self.counts[:, : kept.shape[1]] = kept
        self._first_column[self._pages] = np.arange(len(self._pages)) * self._page_columns

    def _coarser(self, shift: int) -> Array:
        factor = 1 << (shift - self.shift)
        if factor == 1:
            return self.counts
        return self.counts.reshape(len(self.counts), -1, factor).sum(axis=-1)


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
