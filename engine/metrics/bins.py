"""Bins over the order-preserving bit pattern of float32, made where scores occur."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
Keys: TypeAlias = NDArray[np.uint32]

# A page is an eighth of an octave, so page borders fall on octave borders.
_PAGE_BITS = 20
_PAGES = 1 << (32 - _PAGE_BITS)
# Keys are counted in pieces that stay in a core's cache.
_PIECE = 1 << 16
_SIGN = np.uint32(1 << 31)


def raise_unless_finite(scores: Array) -> None:
    """Raise a ValueError that counts the scores that are NaN or infinite, if any is."""
    count = np.count_nonzero(~np.isfinite(scores))
    if count:
        raise ValueError(f"{count} of {scores.size} scores are not finite as {scores.dtype}")


def ordered_keys(scores: ArrayLike) -> Keys:
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
    raise_unless_finite(single)
    bits = (single + np.float32(0.0)).view(np.int32)  # -0 + 0 is 0
    # Negative numbers sort backwards by their bits: all bits flip. Others: only the sign.
    keys = bits >> 31
    keys |= np.int32(-(1 << 31))
    keys ^= bits
    return keys.view(np.uint32)


def scores_of(keys: Keys) -> NDArray[np.float32]:
    """Inverse of :func:`ordered_keys`."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)


class PagedBins:
    """Rows of counts over ordered keys, with memory only for the pages of keys that occur.

    The width of a bin, ``2**shift`` keys, is the smallest with which the pages fit. It depends on
    which pages occur and on nothing else, so neither the order of the scores nor how they were
    split before merging changes a count.

    Args:
        rows: Number of rows.
        max_bins: Bins of a row, at least 4096: one for each page that can occur.
    """

    def __init__(self, rows: int, max_bins: int) -> None:
        # (rows, C) float64, whole numbers being exact up to 2^53. Columns are grouped by page, in
        # the order in which pages were first seen.
        self.counts = np.zeros((rows, 0))
        self.shift = 0  # number of low bits of a key that its bin ignores, 0 to 20
        self._max_bins = max_bins
        self._pages = np.zeros(0, dtype=np.int64)
        self._first_column = np.full(_PAGES, -1, dtype=np.int64)

    @property
    def _page_columns(self) -> int:
        return 1 << (_PAGE_BITS - self.shift)

    def reserve(self, keys: Keys) -> None:
        """Make room for all pages of the keys at once."""
        seen = np.bincount((keys >> np.uint32(_PAGE_BITS)).ravel(), minlength=_PAGES)
        self._open(np.flatnonzero((seen > 0) & (self._first_column < 0)))

    def locate(self, keys: Keys) -> NDArray[np.int64]:
        """Column of each key, of the keys' shape; valid until new pages are opened."""
        pages = keys >> np.uint32(_PAGE_BITS)
        columns = self._first_column.take(pages)
        if columns.min(initial=0) < 0:
            self.reserve(keys)
            columns = self._first_column.take(pages)
        columns += (keys & np.uint32((1 << _PAGE_BITS) - 1)) >> np.uint32(self.shift)
        return columns

    def add(self, row: int, keys: Keys, weights: Array | None = None) -> None:
        """Count (N,) keys in one row, each with its weight, or once."""
        for start in range(0, len(keys), _PIECE):
            piece = slice(start, start + _PIECE)
            columns = self.locate(keys[piece])
            np.add.at(self.counts[row], columns, 1.0 if weights is None else weights[piece])

    def merge(self, other: PagedBins) -> None:
        """Add the counts of bins with the same rows and limit."""
        self._open(np.setdiff1d(other._pages, self._pages))
        slots = self._first_column[other._pages] // self._page_columns
        shape = (len(self.counts), len(slots), self._page_columns)
        own = self.counts.reshape(len(self.counts), len(self._pages), self._page_columns)
        own[:, slots] += other._coarser(self.shift).reshape(shape)

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
        """The counts with bins of ``2**shift`` keys."""
        factor = 1 << (shift - self.shift)
        if factor == 1:
            return self.counts
        rows, bins = self.counts.shape
        return self.counts.reshape(rows, bins // factor, factor).sum(axis=-1)
