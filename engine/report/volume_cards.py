"""What the section Volumes of a report shows: slices, thumbnails and a curve of each volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.report.cards import verdict
from engine.report.charts import NAMES
from engine.report.volumes import PICTURE_SIDE, SHOWN_SLICES, ScoredVolume, VolumePictures

# Along the axis of the volume; each stands for an equal part of it.
_THUMBNAILS = 8
# Above the highest and below the lowest score, in percent of the curve's height.
_MARGIN = 8


def volume_cards(
    volumes: Sequence[ScoredVolume], threshold: float | None
) -> list[dict[str, object]]:
    """Volumes as volumes.html.j2 shows them.

    Args:
        volumes: The highest score first.
        threshold: Of slices, a line in their curves; None without one.
    """
    return [
        {
            "name": volume.name,
            "score": volume.score,
            "label": None if volume.label is None else NAMES[volume.label],
            "verdict": verdict(volume.label, volume.predicted),
            "pictures": volume.pictures and _pictures(volume.pictures, threshold),
        }
        for volume in volumes
    ]


def volumes_note(volumes: Sequence[ScoredVolume]) -> str:
    """What the reader must know of the choice of volumes and slices."""
    shown = [volume.pictures for volume in volumes if volume.pictures]
    if not shown:
        return "There are no pictures, since REPORT_IMAGES is 0 or no slice was scored."
    note = "Each volume starts at its slice of the highest score."
    if len(shown) < len(volumes):
        note = (
            f"Pictures of {len(shown):,} of {len(volumes):,} volumes, those of the highest scores; "
            f"the others are in a table below. {note}"
        )
    if any(len(pictures.slices) < pictures.num_slices for pictures in shown):
        note += (
            f" At most {SHOWN_SLICES} slices of a volume have pictures, spread evenly, that one "
            "among them; slices without a score have none. The curve is of all scores."
        )
    return note


@dataclass(frozen=True)
class _Curve:
    """Scores along the axis of a volume, in percent of width and height, y downwards."""

    pictures: VolumePictures
    threshold: float | None

    def x(self, number: int) -> float:
        return round(100 * (number + 0.5) / self.pictures.num_slices, 2)

    def y(self, score: float) -> float:
        values = [*self.pictures.scores.values()]
        values += [] if self.threshold is None else [self.threshold]
        low, high = min(values), max(values)
        share = (score - low) / (high - low) if high > low else 0
        return round(100 - _MARGIN - (100 - 2 * _MARGIN) * share, 2)

    @property
    def path(self) -> str:
        scores = sorted(self.pictures.scores.items())
        return "M" + "L".join(f"{self.x(number):g} {self.y(score):g}" for number, score in scores)


def _pictures(pictures: VolumePictures, threshold: float | None) -> dict[str, object]:
    curve, scores = _Curve(pictures, threshold), pictures.scores
    height, width = (PICTURE_SIDE * side / max(pictures.extent) for side in pictures.extent)
    numbers = [each.number for each in pictures.slices]
    return {
        "slices": [
            (each, scores[each.number], curve.x(each.number), curve.y(scores[each.number]))
            for each in pictures.slices
        ],
        "worst": numbers.index(max(numbers, key=scores.__getitem__)),
        "num_slices": pictures.num_slices,
        "thumbnails": _thumbnails(pictures),
        "size": (round(width, 1), round(height, 1)),
        "curve": curve.path,
        "curve_ends": (curve.x(min(scores)), curve.x(max(scores))),
        "lowest": min(scores.values()),
        "highest": max(scores.values()),
        "threshold_y": None if threshold is None else curve.y(threshold),
    }


def _thumbnails(pictures: VolumePictures) -> list[int | None]:
    """Of each part of the volume the shown slice of the highest score, by its position."""
    count = min(_THUMBNAILS, pictures.num_slices)
    parts: list[int | None] = [None] * count
    ascending = sorted(enumerate(pictures.slices), key=lambda each: pictures.scores[each[1].number])
    for position, each in ascending:
        parts[each.number * count // pictures.num_slices] = position
    return parts
