"""The thresholds of images, pixels and volumes, by what validation images score."""

from collections.abc import Sequence

import numpy as np

from datasets.folders.find import NORMAL, Split
from engine.evaluate.volumes import volumes_of
from engine.metrics.collectors import NormalPixels, PixelMetrics
from engine.metrics.curves import best_f1
from engine.metrics.histogram import SortedScores
from utils.config.values import VolumeReduction


def find_threshold(labels: np.ndarray, scores: np.ndarray, quantile: float) -> tuple[float, str]:
    """That of best F1, or the quantile of normal scores where there are no others, and its name."""
    normal = scores[labels == NORMAL]
    if len(normal) == len(scores):
        return float(np.quantile(normal, quantile)), f"{quantile:g} quantile"
    return best_f1(SortedScores(labels, scores).curve())[1], "best F1"


def find_pixel_threshold(
    marked: PixelMetrics, normal: NormalPixels, quantile: float
) -> tuple[float, str]:
    """That of best Dice, or the quantile of normal pixels where none is marked, and its name."""
    best_dice = marked.compute()["pixel_f1_threshold"]
    if best_dice is not None:
        return best_dice, "best Dice"
    return normal.quantile(quantile), f"{quantile:g} quantile of normal pixels"


def find_volume_threshold(
    split: Split, scores: Sequence[float], reduction: VolumeReduction
) -> float | None:
    """The threshold of best F1 over the volumes of a split; None if a class is missing."""
    volumes = volumes_of(split)
    labels = [volume.label for volume in volumes]
    if len(set(labels)) < 2:
        return None
    curve = SortedScores(labels, [volume.score(scores, reduction) for volume in volumes]).curve()
    return best_f1(curve)[1]
