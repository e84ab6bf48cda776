"""Seeded 95 % percentile intervals of threshold metrics, by resampling groups of images.

A group is one image, or all images of one patient: slices of a patient are alike, and resampling
them one by one would give intervals that are too narrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.metrics.bins import Array, PagedBins
from engine.metrics.histogram import Curve, SortedScores

Interval = list[float] | None

# 200 replicates of 3 channels in float64: 20 MB at most.
_MAX_BINS = 4096
# Images whose histograms are held at once.
_IMAGES = 64


class Statistic(Protocol):
    """A metric on a curve; None where a class is missing."""

    def __call__(self, curve: Curve, /) -> float | None:
        """Value of the metric."""


def percentile_interval(values: Iterable[float | None]) -> Interval:
    """2.5 % and 97.5 % percentile of the defined values; None where there are none."""
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return [float(low), float(high)]


def group_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[str],
    statistics: Mapping[str, Statistic],
    *,
    seed: int = 0,
    replicates: int = 1000,
) -> dict[str, Interval]:
    """Intervals from groups drawn with replacement, as many as there are.

    Args:
        labels: (N,) 0 for normal, 1 for anomalous.
        scores: (N,) finite scores.
        groups: N names; images with one name are drawn together.
        statistics: Metrics by name.
        seed: Seed of the draws. The order of the images does not matter.
        replicates: Number of draws. One that lacks a class is left out.

    Raises:
        ValueError: Lengths differ, or a label or score is invalid.
    """
    sorted_scores = SortedScores(labels, scores)
    if len(groups) != len(sorted_scores.order):
        raise ValueError(f"found {len(groups)} groups for {len(sorted_scores.order)} scores")
    names, member = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    generator = np.random.default_rng(seed)
    values: dict[str, list[float | None]] = {name: [] for name in statistics}
    for _ in range(replicates if len(names) else 0):
        draws = np.bincount(generator.integers(len(names), size=len(names)), minlength=len(names))
        curve = sorted_scores.curve(draws[member].astype(np.float64))
        for name, statistic in statistics.items():
            values[name].append(statistic(curve))
    return {name: percentile_interval(found) for name, found in values.items()}


def poisson_weights(group: str, seed: int, replicates: int) -> NDArray[np.float64]:
    """(replicates,) times that a group occurs in each replicate.

    They follow from seed and name alone: the order of images and the process that sees them do
    not matter, and slices of one patient occur together.
    """
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest, "little")])
    return generator.poisson(1.0, replicates).astype(np.float64)


class PixelBootstrap:
    """Poisson bootstrap of pixel metrics: one weighted histogram a replicate, in flat memory.

    Poisson(1) weights are the limit of drawing with replacement, and need neither the number of
    groups nor the pixels of past images. Counts are float64: sums of whole numbers stay exact, so
    merged parts equal the whole.
    """

    _CHANNELS = 3  # all pixels, anomalous pixels, 1 / |region| of anomalous pixels

    def __init__(self, seed: int = 0, replicates: int = 200) -> None:
        self.seed = seed
        self.replicates = replicates
        self._bins = PagedBins(self._CHANNELS * replicates, _MAX_BINS)

    def update(
        self,
        keys: NDArray[np.uint32],
        masks: Array,
        region_weights: Sequence[Array],
        groups: Sequence[str],
    ) -> None:
        """Add a batch.

        Args:
            keys: (B, H, W) ordered keys of the scores.
            masks: (B, H, W) booleans, True for anomalous.
            region_weights: B arrays, 1 / |region| for each anomalous pixel in raster order.
            groups: B names.
        """
        if not self.replicates:
            return
        for start in range(0, len(keys), _IMAGES):
            part = slice(start, start + _IMAGES)
            histograms = self._histograms(keys[part], masks[part], region_weights[part])
            draws = [poisson_weights(name, self.seed, self.replicates) for name in groups[part]]
            shape = (self._CHANNELS, self.replicates, -1)
            # (R, B) @ (3, B, C): every image enters every replicate with its weight.
            self._bins.counts.reshape(shape)[:] += np.stack(draws, axis=1) @ histograms

    def merge(self, other: PixelBootstrap) -> None:
        """Add all that another bootstrap has seen.

        Raises:
            ValueError: Its seed or number of replicates differs.
        """
        if (self.seed, self.replicates) != (other.seed, other.replicates):
            raise ValueError("bootstraps of different seeds or replicates cannot be merged")
        self._bins.merge(other._bins)

    def intervals(self, statistics: Mapping[str, Statistic]) -> dict[str, Interval]:
        """Intervals of the metrics by name; None where no replicate has both classes."""
        values: dict[str, list[float | None]] = {name: [] for name in statistics}
        thresholds = self._bins.thresholds()
        for replicate in range(self.replicates):
            rows = range(replicate, self._CHANNELS * self.replicates, self.replicates)
            channels = [self._bins.descending(row) for row in rows]
            curve = Curve.from_counts(thresholds, *channels)
            for name, statistic in statistics.items():
                values[name].append(statistic(curve))
        return {name: percentile_interval(found) for name, found in values.items()}

    def _histograms(
        self, keys: NDArray[np.uint32], masks: Array, region_weights: Sequence[Array]
    ) -> NDArray[np.float64]:
        """Counts of each image, (3, B, C)."""
        for image in keys:  # all pages are open before columns are numbered
            self._bins.reserve(image)
        width = self._bins.counts.shape[1]
        histograms = np.empty((self._CHANNELS, len(keys), width))
        for index, (image, mask) in enumerate(zip(keys, masks, strict=True)):
            columns = self._bins.locate(image)  # (H, W)
            found = columns[mask]
            histograms[0, index] = np.bincount(columns.ravel(), minlength=width)
            histograms[1, index] = np.bincount(found, minlength=width)
            histograms[2, index] = np.bincount(found, region_weights[index], minlength=width)
        return histograms
