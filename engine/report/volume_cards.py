"""What the section Volumes of a report shows: slices, thumbnails and a curve of each volume."""

from collections.abc import Sequence

from engine.report.cards import verdict
from engine.report.charts import NAMES
from engine.report.volumes import PICTURE_SIDE, SHOWN_SLICES, ScoredVolume, VolumePictures

# Along the axis of the volume; each shows an equal part of it.
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
    """What the reader must know about the choice of volumes and slices."""
    shown = [volume.pictures for volume in volumes if volume.pictures]
    if not shown:
        return "There are no pictures because REPORT_IMAGES is 0 or no slice was scored."
    note = "Each volume opens at its highest-scoring slice."
    if len(shown) < len(volumes):
        note = (
            f"Shown are the {len(shown):,} of {len(volumes):,} volumes with the highest scores; "
            f"the others are in a table below. {note}"
        )
    if any(len(pictures.slices) < pictures.num_slices for pictures in shown):
        note += (
            f" At most {SHOWN_SLICES} evenly spaced slices per volume are shown, always with the "
            "highest-scoring one; slices without a score are not. The curve covers all scores."
        )
    return note


def _pictures(pictures: VolumePictures, threshold: float | None) -> dict[str, object]:
    """Slices, and the curve of their scores in percent of its width and height, y downwards."""
    scores = pictures.scores
    values = [*scores.values(), *([] if threshold is None else [threshold])]
    low, high = min(values), max(values)

    def x(number: int) -> float:
        return round(100 * (number + 0.5) / pictures.num_slices, 2)

    def y(score: float) -> float:
        share = (score - low) / (high - low) if high > low else 0
        return round(100 - _MARGIN - (100 - 2 * _MARGIN) * share, 2)

    points = (f"{x(number):g} {y(score):g}" for number, score in sorted(scores.items()))
    height, width = (PICTURE_SIDE * side / max(pictures.extent) for side in pictures.extent)
    numbers = [each.number for each in pictures.slices]
    return {
        "slices": [
            (each, scores[each.number], x(each.number), y(scores[each.number]))
            for each in pictures.slices
        ],
        "worst": numbers.index(max(numbers, key=scores.__getitem__)),
        "num_slices": pictures.num_slices,
        "thumbnails": _thumbnails(pictures),
        "size": (round(width, 1), round(height, 1)),
        "curve": f"M{'L'.join(points)}",
        "curve_ends": (x(min(scores)), x(max(scores))),
        "lowest": min(scores.values()),
        "highest": max(scores.values()),
        "threshold_y": None if threshold is None else y(threshold),
    }


def _thumbnails(pictures: VolumePictures) -> list[int | None]:
    """For each part of the volume, the position of its shown slice with the highest score."""
    count = min(_THUMBNAILS, pictures.num_slices)
    parts: list[int | None] = [None] * count
    ascending = sorted(enumerate(pictures.slices), key=lambda each: pictures.scores[each[1].number])
    for position, each in ascending:
        parts[each.number * count // pictures.num_slices] = position
    return parts
