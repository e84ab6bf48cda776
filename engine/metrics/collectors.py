"""What is gathered from anomaly maps while they pass by, since they are not kept.

Collectors of several processes are merged; they are picklable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from datasets.folders.find import NORMAL
from engine.metrics.bins import ordered_keys
from engine.metrics.bootstrap import PixelBootstrap, Replicates
from engine.metrics.curves import aupro, region_weights, threshold_metrics
from engine.metrics.histogram import ScoreHistogram

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


class Collector(Protocol):
    """Takes in anomaly maps batch by batch, and merges with what another process took in."""

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Take in a batch: (B, H, W) finite scores, (B, H, W) masks, B sample indices."""

    def merge(self, other: Self) -> None:
        """Add what another one has taken in."""


class PixelMetrics:
    """Pixel metrics over all images, normal ones included, without holding the maps.

    Args:
        groups: What the bootstrap draws, a name of an image or patient per sample of the split.
        seed: Seed of the bootstrap.
        replicates: Replicates of the bootstrap; 0 leaves intervals out, and groups are not needed.
    """

    def __init__(self, groups: Sequence[str] = (), *, seed: int = 0, replicates: int = 0) -> None:
        self._groups = groups
        self._histogram = ScoreHistogram()
        # A single group does not show how others would differ.
        several = len(set(groups)) > 1
        self._bootstrap = PixelBootstrap(seed, replicates * several) if replicates else None

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Add a batch.

        Raises:
            ValueError: A score is not finite.
        """
        keys = ordered_keys(anomaly_maps)
        weights = [region_weights(mask) for mask in masks]
        self._histogram.update(keys, masks, np.concatenate(weights))
        if self._bootstrap:
            groups = [self._groups[index] for index in indices]
            self._bootstrap.update(keys, masks, weights, groups)

    def merge(self, other: PixelMetrics) -> None:
        """Add another process's pixels."""
        self._histogram.merge(other._histogram)
        if self._bootstrap and other._bootstrap:
            self._bootstrap.merge(other._bootstrap)

    def compute(self) -> dict[str, float | None]:
        """Metrics by name; None, with a warning, if a class is missing.

        ``pixel_dice_max`` is Dice pooled over all pixels, which is F1 by definition.
        """
        curve = self._histogram.curve()
        metrics = threshold_metrics(curve, "pixel")
        return metrics | {
            "pixel_dice_max": metrics["pixel_f1_max"],
            "pixel_aupro": aupro(curve) if curve.has_both_classes else None,
        }

    def replicates(self) -> Replicates:
        """Those of the metrics that have an interval; empty without a bootstrap."""
        return self._bootstrap.replicates() if self._bootstrap else {}


class NormalPixels:
    """The distribution of the pixel scores of normal images, for the colour scale."""

    def __init__(self, labels: Sequence[int]) -> None:
        self._labels = np.asarray(labels)
        self._histogram = ScoreHistogram()

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Add a batch's normal images."""
        maps = anomaly_maps[self._labels[np.asarray(indices)] == NORMAL]
        self._histogram.update(ordered_keys(maps), np.zeros(maps.shape, dtype=np.bool_))

    def merge(self, other: NormalPixels) -> None:
        """Add another process's pixels."""
        self._histogram.merge(other._histogram)

    def quantile(self, fraction: float) -> float:
        """The pixel score that ``fraction`` of normal pixels do not exceed; there must be some."""
        curve = self._histogram.curve()
        # Thresholds descend while false positives grow: the first that lets enough through.
        position = int(np.searchsorted(curve.fp, (1 - fraction) * curve.normal))
        return float(curve.thresholds[position])
