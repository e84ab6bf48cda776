"""Slices as the volumes that they are cut from: labels, scores and decisions of a whole volume."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from datasets.folders.find import ANOMALOUS, Split
from engine.evaluate.reductions import volume_score
from utils.config.values import VolumeReduction


@dataclass(frozen=True)
class Volume:
    """A volume of a split."""

    name: Path  # its path
    indices: tuple[int, ...]  # positions of its slices in the split, in the order of the split
    label: int  # 1 if any slice is anomalous, one of background too, else 0

    def slice_scores(self, scores: Sequence[float]) -> list[float]:
        """The scores of its slices, of those of a whole split."""
        return [scores[index] for index in self.indices]

    def score(self, scores: Sequence[float], reduction: VolumeReduction) -> float:
        """Its score, see :func:`engine.evaluate.reductions.volume_score`."""
        return volume_score(self.slice_scores(scores), reduction)

    def worst(self, scores: Sequence[float]) -> int | None:
        """The position of its slice with the highest score; None if no slice counts."""
        return max(self.indices, key=scores.__getitem__, default=None)


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


class VolumeCells(NamedTuple):
    """A row of volumes.csv, without name and label."""

    score: float
    predicted: int | None
    num_slices: int
    num_anomalous: int | None


@dataclass(frozen=True)
class VolumeRule:
    """How a volume is scored and called."""

    reduction: VolumeReduction  # how the scores of its slices become its own
    volume_threshold: float | None  # learnt on validation volumes; else the worst slice decides
    threshold: float | None  # of slices, None if there is none

    def cells(self, slice_scores: Sequence[float]) -> VolumeCells:
        """Score and call a volume by the slices that count."""
        score = volume_score(slice_scores, self.reduction)
        num_anomalous = predicted = None
        if self.threshold is not None:
            num_anomalous = sum(each >= self.threshold for each in slice_scores)
            predicted = int(num_anomalous > 0)
        if self.volume_threshold is not None:
            predicted = int(score >= self.volume_threshold)
        return VolumeCells(
            score, predicted if slice_scores else None, len(slice_scores), num_anomalous
        )
