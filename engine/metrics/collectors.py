"""What is gathered from anomaly maps while they pass by, since they are not kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from datasets.folders.find import NORMAL
from engine.metrics.curves import PixelMetrics
from engine.metrics.histogram import ScoreHistogram

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


class Collector(Protocol):
    """Takes in anomaly maps batch by batch, and merges with what another process took in."""

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Take in a batch: (B, H, W) maps, (B, H, W) masks, B sample indices."""

    def merge(self, other: Self) -> None:
        """Add what another one has taken in."""


class PixelCollector:
    """Fills pixel metrics.

    Args:
        seed: Seed of the bootstrap.
        replicates: Replicates of the bootstrap, 0 for none.
        group_of: Sample index to bootstrap group (a patient), by default the sample itself.
    """

    def __init__(self, seed: int, replicates: int, group_of: Callable[[int], str] = str) -> None:
        self.metrics = PixelMetrics(seed, replicates)
        self._group_of = group_of

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Add a batch."""
        self.metrics.update(anomaly_maps, masks, [self._group_of(index) for index in indices])

    def merge(self, other: PixelCollector) -> None:
        """Add another process's pixels."""
        self.metrics.merge(other.metrics)


class NormalPixels:
    """The distribution of the pixel scores of normal images, for the colour scale.

    Args:
        labels: One per sample of the split.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        self._labels = np.asarray(labels)
        self._histogram = ScoreHistogram()

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Add a batch's normal images."""
        maps = anomaly_maps[self._labels[np.asarray(indices)] == NORMAL]
        self._histogram.update(maps, np.zeros(maps.shape, dtype=bool))

    def merge(self, other: NormalPixels) -> None:
        """Add another process's pixels."""
        self._histogram.merge(other._histogram)

    def quantile(self, fraction: float) -> float | None:
        """The pixel score that ``fraction`` of normal pixels do not exceed; None without any."""
        curve = self._histogram.curve()
        if not curve.normal:
            return None
        # Thresholds descend while false positives grow: the first that lets enough through.
        position = int(np.searchsorted(curve.fp, (1 - fraction) * curve.normal))
        return float(curve.thresholds[min(position, len(curve.thresholds) - 1)])
