"""Metrics of whole volumes and of patients, with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.folders.find import Split
from engine.evaluate.reductions import volume_score
from engine.evaluate.volumes import volumes_of
from engine.metrics.bootstrap import Level, mean_interval, score_intervals
from engine.metrics.curves import threshold_metrics
from engine.metrics.histogram import SortedScores
from engine.metrics.run_metrics import Metrics
from utils.config.values import VolumeReduction


def add_volume_metrics(
    metrics: Metrics,
    split: Split,
    scores: Sequence[float],
    patients: Sequence[str] | None,
    dice: Mapping[Path, float],
    *,
    reduction: VolumeReduction,
    seed: int,
) -> None:
    """Put the metrics of volumes and of patients, with their intervals, beside those of images.

    They are None where there are no volumes, patients are not known, or a class is missing.

    Args:
        metrics: Of the images, see :func:`engine.metrics.run_metrics.run_metrics`.
        split: The images.
        scores: One per image.
        patients: One per image, drawn by the bootstrap; None to draw volumes.
        dice: Of anomalous volumes; empty without masks or a pixel threshold.
        reduction: VOLUME_REDUCTION.
        seed: Seed of the bootstrap.
    """
    volumes = volumes_of(split)
    groups = {
        each.name: patients[each.indices[0]] if patients else str(each.name) for each in volumes
    }
    _rank(
        metrics,
        "volume",
        [volume.label for volume in volumes],
        [volume.score(scores, reduction) for volume in volumes],
        list(groups.values()),
        seed,
    )
    values, drawn = list(dice.values()), [groups[name] for name in dice]
    metrics["volume_dice"] = float(np.mean(values)) if dice else None
    metrics["intervals_95"]["volume_dice"] = mean_interval(values, drawn, seed=seed)
    metrics["num_volumes"] = len(volumes)
    metrics["interval_unit_volumes"] = "patient" if patients else "volume"

    images = defaultdict[str, list[int]](list)
    for index, patient in enumerate(patients or ()):
        images[patient].append(index)
    _rank(
        metrics,
        "patient",
        [max(split.labels[index] for index in indices) for indices in images.values()],
        [volume_score([scores[i] for i in indices], reduction) for indices in images.values()],
        list(images),
        seed,
    )


def _rank(
    metrics: Metrics,
    level: Level,
    labels: list[int],
    scores: list[float],
    groups: list[str],
    seed: int,
) -> None:
    """Add the metrics of a level that have an interval."""
    intervals = score_intervals(labels, scores, groups, level=level, seed=seed)
    values = threshold_metrics(SortedScores(labels, scores).curve(), level)
    metrics |= {name: values[name] for name in intervals}
    metrics["intervals_95"] |= intervals
