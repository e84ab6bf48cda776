"""The volumes of a test, as its report shows them."""

from collections.abc import Iterable, Mapping

from datasets.readers.image import open_image
from datasets.readers.volume import VolumeFile
from engine.evaluate.cases import Case
from engine.evaluate.volumes import Volume, volumes_of
from engine.report.runs import TestRun
from engine.report.volumes import (
    SHOWN_VOLUMES,
    ScoredVolume,
    SliceView,
    VolumePictures,
    evenly_chosen,
    slice_view,
)


def slices_to_show(run: TestRun) -> list[int]:
    """Positions in the split of the slices that :func:`tested_volumes` wants pictures of."""
    if run.config.need_testing().report_images == 0:
        return []
    chosen = []
    for volume in _highest_first(run)[:SHOWN_VOLUMES]:
        worst = volume.worst(run.scores)
        if worst is None:
            continue
        indices = sorted(volume.indices, key=lambda index: run.split.samples[index].frame or 0)
        chosen += sorted({worst, *(indices[each] for each in evenly_chosen(len(indices)))})
    return chosen


def tested_volumes(run: TestRun, cases: Iterable[tuple[int, Case]]) -> list[ScoredVolume]:
    """All volumes of a test, the highest score first.

    Args:
        run: The finished test.
        cases: The slices of :func:`slices_to_show`; no two are kept at a time.
    """
    views = {
        index: slice_view(
            run.split.samples[index].frame or 0,
            case.image,
            case.anomaly_map,
            run.colours,
            run.pixel_threshold,
            case.mask,
        )
        for index, case in cases
    }
    return [_scored(run, volume, views) for volume in _highest_first(run)]


def _highest_first(run: TestRun) -> list[Volume]:
    rule = run.volume_rule
    return sorted(volumes_of(run.split), key=lambda each: -each.score(run.scores, rule.reduction))


def _scored(run: TestRun, volume: Volume, views: Mapping[int, SliceView]) -> ScoredVolume:
    cells = run.volume_rule.cells(volume.slice_scores(run.scores))
    slices = [views[index] for index in volume.indices if index in views]
    return ScoredVolume(
        str(volume.name),
        cells.score,
        cells.predicted,
        volume.label,
        _pictures(run, volume, slices) if slices else None,
    )


def _pictures(run: TestRun, volume: Volume, slices: list[SliceView]) -> VolumePictures:
    samples = [run.split.samples[index] for index in volume.indices]
    first = samples[0]
    with open_image(first.source, first.axis, volume=first.volume) as file:
        assert isinstance(file, VolumeFile)
        num_slices, extent = file.num_frames, file.extent
    return VolumePictures(
        tuple(sorted(slices, key=lambda each: each.number)),
        {
            sample.frame or 0: run.scores[index]
            for index, sample in zip(volume.indices, samples, strict=True)
        },
        num_slices,
        extent,
    )
