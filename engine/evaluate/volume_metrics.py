"""Metrics of whole volumes and of patients, with their intervals."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.folders.find import Split
from datasets.readers.formats import shown
from engine.evaluate.reductions import volume_score
from engine.evaluate.volumes import volumes_of
from engine.metrics.bootstrap import Level, intervals, mean_interval, score_replicates
from engine.metrics.curves import threshold_metrics
from engine.metrics.histogram import SortedScores
from engine.metrics.run_metrics import Metrics
from utils.config.values import VolumeReduction

logger = logging.getLogger(__name__)


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

    They are None if there are no volumes, patients are not known, or a class is missing.
    Volumes without a slice that counts rank last, with a warning.

    Args:
        metrics: Of the images, see :func:`engine.metrics.run_metrics.run_metrics`.
        split: The images.
        scores: One per image.
        patients: One per image and, after these, one per image of background; drawn by the
            bootstrap. None to draw volumes.
        dice: Of anomalous volumes; empty without masks or a pixel threshold.
        reduction: VOLUME_REDUCTION.
        seed: Seed of the bootstrap.
    """
    volumes = volumes_of(split)
    if empty := [volume.name for volume in volumes if not volume.indices]:
        logger.warning(
            "volumes without a slice that has enough foreground to score (MIN_FOREGROUND), such as "
            "%s: %d; volume metrics rank them last",
            shown(empty[0]),
            len(empty),
        )
    everything = (*split.samples, *split.background)
    names = patients or [str(sample.volume_name) for sample in everything]
    groups = {sample.volume_name: name for sample, name in zip(everything, names, strict=True)}
    _rank(
        metrics,
        "volume",
        [volume.label for volume in volumes],
        [volume.score(scores, reduction) for volume in volumes],
        [groups[volume.name] for volume in volumes],
        seed,
    )
    values, drawn = list(dice.values()), [groups[name] for name in dice]
    metrics["volume_dice"] = float(np.mean(values)) if dice else None
    metrics["intervals_95"]["volume_dice"] = mean_interval(values, drawn, seed=seed)
    metrics["num_volumes"] = len(volumes)
    metrics["interval_unit_volumes"] = "patient" if patients else "volume"

    images, labels = defaultdict[str, list[float]](list), defaultdict[str, int](int)
    for index, patient in enumerate(patients or ()):
        images[patient] += scores[index : index + 1]
        labels[patient] = max(labels[patient], everything[index].label or 0)
    _rank(
        metrics,
        "patient",
        list(labels.values()),
        [volume_score(each, reduction) for each in images.values()],
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
    bounds = intervals(score_replicates(labels, scores, groups, level=level, seed=seed))
    values = threshold_metrics(SortedScores(labels, scores).curve(), level)
    metrics |= {name: values[name] for name in bounds}
    metrics["intervals_95"] |= bounds
