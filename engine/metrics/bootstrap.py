"""Seeded 95 % percentile intervals of threshold metrics, by resampling groups of images.

A group is one image, or all images of one patient: slices of a patient are alike, and resampling
them one by one would give intervals that are too narrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.metrics.bins import Array, Keys, PagedBins
from engine.metrics.curves import Metric, aupro, auroc, average_precision, f1_max
from engine.metrics.histogram import Curve, SortedScores

Interval = list[float] | None
"""[low, high]; None if no replicate has both classes, or there is only one group."""

Replicates = dict[str, Array]
"""Metric → its value in each replicate; those that lack a class are left out."""

Level = Literal["image", "volume", "patient"]
_METRICS: Mapping[Level, Mapping[str, Metric]] = {
    "image": {"image_auroc": auroc, "image_ap": average_precision, "image_f1_max": f1_max},
    "volume": {"volume_auroc": auroc, "volume_ap": average_precision},
    "patient": {"patient_auroc": auroc},
}
_PIXEL_METRICS: Mapping[str, Metric] = {
    "pixel_auroc": auroc,
    "pixel_ap": average_precision,
    "pixel_f1_max": f1_max,
    "pixel_aupro": aupro,
}
# 200 replicates of 3 channels in float64: 20 MB at most.
_MAX_BINS = 4096
# Images whose histograms are held at once.
_IMAGES = 64


def _replicates(curves: Iterable[Curve], metrics: Mapping[str, Metric]) -> Replicates:
    values = [
        [metric(curve) for metric in metrics.values()] for curve in curves if curve.has_both_classes
    ]
    columns = np.reshape(values, (len(values), len(metrics))).T
    return dict(zip(metrics, columns, strict=True))


def intervals(replicates: Replicates) -> dict[str, Interval]:
    """2.5 % and 97.5 % percentiles of each metric."""
    return {
        name: np.percentile(values, [2.5, 97.5]).tolist() if len(values) else None
        for name, values in replicates.items()
    }


def difference_intervals(one: Replicates, other: Replicates) -> dict[str, Interval]:
    """95 % intervals of how much better one scoring is than another, on the same images.

    Args:
        one: Its replicates.
        other: Those of the same labels, groups and seed: each replicate holds the same images.
    """
    return intervals({name: values - other[name] for name, values in one.items()})


def score_replicates(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[str],
    *,
    level: Level = "image",
    seed: int = 0,
    replicates: int = 1000,
) -> Replicates:
    """Replicates of ``image_auroc``, ``image_ap`` and ``image_f1_max``, or of a higher level.

    As many groups are drawn as there are, with replacement.

    Args:
        labels: (N,) 0 for normal, 1 for anomalous.
        scores: (N,) finite scores.
        groups: N names; images with one name are drawn together.
        level: What has one score: ``volume`` gives ``volume_auroc`` and ``volume_ap``, ``patient``
            gives ``patient_auroc``.
        seed: Seed of the draws. The order of the images does not matter.
        replicates: Number of draws. One that lacks a class is left out.
    """
    sorted_scores = SortedScores(labels, scores)
    weights = _draws(groups, seed, replicates)
    return _replicates(map(sorted_scores.curve, weights), _METRICS[level])


def mean_interval(
    values: Sequence[float], groups: Sequence[str], *, seed: int = 0, replicates: int = 1000
) -> Interval:
    """95 % interval of a mean, by the same draws; None of no values.

    Args:
        values: (N,).
        groups: N names; values with one name are drawn together.
        seed: Seed of the draws.
        replicates: Number of draws.
    """
    means = [np.average(values, weights=each) for each in _draws(groups, seed, replicates)]
    return np.percentile(means, [2.5, 97.5]).tolist() if means else None


def _draws(groups: Sequence[str], seed: int, replicates: int) -> Iterator[NDArray[np.intp]]:
    """(N,) how often each element occurs in a replicate."""
    names, member = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    generator = np.random.default_rng(seed)
    for _ in range(replicates if len(names) > 1 else 0):
        draw = generator.integers(len(names), size=len(names))
        yield np.bincount(draw, minlength=len(names))[member]


def poisson_weights(group: str, seed: int, replicates: int) -> NDArray[np.float64]:
    """(replicates,) times that a group occurs in each replicate.

    They follow from seed and name alone: the order of images and the process that sees them do
    not matter, and slices of one patient occur together.
    """
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest, "little")])
    return generator.poisson(1.0, replicates).astype(np.float64)


class PixelBootstrap:
    """Poisson bootstrap of pixel metrics: one weighted histogram per replicate, in flat memory.

    Poisson(1) weights are the limit of drawing with replacement, and need neither the number of
    groups nor the pixels of past images. Counts are float64: sums of whole numbers stay exact, so
    merged parts equal the whole.
    """

    _CHANNELS = 3  # all pixels, anomalous pixels, 1 / |region| of anomalous pixels

    def __init__(self, seed: int, replicates: int) -> None:
        self._seed = seed
        self._replicates = replicates
        self._bins = PagedBins(self._CHANNELS * replicates, _MAX_BINS)

    def update(
        self,
        keys: Keys,
        masks: NDArray[np.bool_],
        region_weights: Sequence[Array],
        groups: Sequence[str],
    ) -> None:
        """Add a batch.

        Args:
            keys: (B, H, W) ordered keys of the scores.
            masks: (B, H, W), True for anomalous.
            region_weights: B arrays, 1 / |region| for each anomalous pixel in raster order.
            groups: B names.
        """
        for start in range(0, len(keys), _IMAGES):
            part = slice(start, start + _IMAGES)
            histograms = self._histograms(keys[part], masks[part], region_weights[part])
            draws = [poisson_weights(name, self._seed, self._replicates) for name in groups[part]]
            shape = (self._CHANNELS, self._replicates, histograms.shape[2])
            # (R, B) @ (3, B, C): every image enters every replicate with its weight.
            self._bins.counts.reshape(shape)[:] += np.stack(draws, axis=1) @ histograms

    def merge(self, other: PixelBootstrap) -> None:
        """Add all that another bootstrap of the same seed and replicates has seen."""
        self._bins.merge(other._bins)

    def replicates(self) -> Replicates:
        """Of ``pixel_auroc``, ``pixel_ap``, ``pixel_f1_max`` and ``pixel_aupro``."""
        return _replicates(map(self._curve, range(self._replicates)), _PIXEL_METRICS)

    def _curve(self, replicate: int) -> Curve:
        rows = range(replicate, len(self._bins.counts), self._replicates)
        return Curve.from_counts(self._bins.thresholds(), *map(self._bins.descending, rows))

    def _histograms(
        self, keys: Keys, masks: NDArray[np.bool_], region_weights: Sequence[Array]
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
