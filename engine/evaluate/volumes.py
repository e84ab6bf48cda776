"""Slices as the volumes that they are cut from: labels, scores and decisions of a whole volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.folders.find import ANOMALOUS, Split
from engine.evaluate.reductions import volume_score
from utils.config.values import VolumeReduction


@dataclass(frozen=True)
class Volume:
    """A volume of a split.

    Attributes:
        name: Its path.
        indices: Positions of its slices in the split, in the order of the split.
        label: 1 where any slice is anomalous, one of background too, else 0.
    """

    name: Path
    indices: tuple[int, ...]
    label: int

    def slice_scores(self, scores: Sequence[float]) -> list[float]:
        """The scores of its slices, of those of a whole split."""
        return [scores[index] for index in self.indices]

    def score(self, scores: Sequence[float], reduction: VolumeReduction) -> float:
        """Its score, see :func:`engine.evaluate.reductions.volume_score`."""
        return volume_score(self.slice_scores(scores), reduction)


def volumes_of(split: Split) -> list[Volume]:
    """The volumes of a split, in the order of their first slices; pictures belong to none.

    Those whose slices are all background come last and have no indices.
    """
    slices = defaultdict[Path, list[int]](list)
    everything = (*split.samples, *split.background)
    for index, sample in enumerate(everything):
        if sample.volume_name is not None:
            indices = slices[sample.volume_name]
            indices += [index] if index < len(split.samples) else []
    anomalous = {each.volume_name for each in everything if each.label == ANOMALOUS}
    return [
        Volume(name, tuple(indices), int(name in anomalous)) for name, indices in slices.items()
    ]


def is_anomalous(
    score: float,
    slice_scores: Sequence[float],
    *,
    volume_threshold: float | None,
    threshold: float | None,
) -> bool | None:
    """Whether a volume is called anomalous; None where nothing decides.

    Args:
        score: Of the volume.
        slice_scores: Of its slices.
        volume_threshold: Learnt on validation volumes, None where there is none.
        threshold: Of slices, which the worst one is compared with then.
    """
    if not slice_scores:
        return None
    if volume_threshold is not None:
        return score >= volume_threshold
    return None if threshold is None else max(slice_scores) >= threshold


def volume_cells(
    slice_scores: Sequence[float],
    reduction: VolumeReduction,
    *,
    volume_threshold: float | None,
    threshold: float | None,
) -> tuple[float, int | None, int, int | None]:
    """``score``, ``predicted``, ``num_slices`` and ``num_anomalous`` of a row of volumes.csv."""
    score = volume_score(slice_scores, reduction)
    called = is_anomalous(
        score, slice_scores, volume_threshold=volume_threshold, threshold=threshold
    )
    num_anomalous = None if threshold is None else sum(each >= threshold for each in slice_scores)
    return score, None if called is None else int(called), len(slice_scores), num_anomalous
