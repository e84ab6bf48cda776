"""Volumes for the report of a prediction: pictures of their slices, made as these come."""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import replace

from datasets.readers.volume import VolumeFile
from engine.predictor import Prediction, Predictor
from engine.report.volumes import (
    SHOWN_VOLUMES,
    ScoredVolume,
    SliceView,
    VolumePictures,
    evenly_chosen,
    slice_view,
)


class ReportVolumes:
    """Takes one volume after the other, and keeps pictures of those of the highest scores.

    Evenly chosen slices are encoded as they come; of the others only the worst so far of the open
    volume stays as it is.

    Args:
        predictor: Whose colour scale and pixel threshold are used. Without a scale, and where
            REPORT_IMAGES is 0, there are no pictures.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._colours, self._pixel_threshold = predictor.colours, predictor.pixel_threshold
        wanted = self._colours is not None and predictor.settings.report_images > 0
        self._limit = SHOWN_VOLUMES if wanted else 0
        self._volumes: list[ScoredVolume] = []

    def begin(self, file: VolumeFile) -> None:
        """Turn to a volume."""
        self._file = file
        self._chosen = set(evenly_chosen(file.num_frames)) if self._limit else set()
        self._views: dict[int, SliceView] = {}
        self._worst: tuple[int, Prediction] | None = None

    def add(self, number: int, prediction: Prediction) -> None:
        """Take a slice of it."""
        if number in self._chosen:
            self._views[number] = self._view(number, prediction)
        if self._worst is None or prediction.score > self._worst[1].score:
            self._worst = number, prediction

    def finish(self, volume: ScoredVolume, scores: Mapping[int, float]) -> None:
        """Keep it.

        Args:
            volume: Without pictures.
            scores: Slice → score, of the slices that were taken.
        """
        if self._limit and self._worst is not None:
            number, prediction = self._worst
            if number not in self._views:
                self._views[number] = self._view(number, prediction)
            slices = tuple(view for _, view in sorted(self._views.items()))
            file = self._file
            pictures = VolumePictures(slices, scores, file.num_frames, file.extent)
            volume = replace(volume, pictures=pictures)
        insort(self._volumes, volume, key=lambda each: -each.score)
        for number, left in enumerate(self._volumes[self._limit :], self._limit):
            if left.pictures:
                self._volumes[number] = replace(left, pictures=None)

    @property
    def entries(self) -> Sequence[ScoredVolume]:
        """All volumes, the highest score first."""
        return self._volumes

    def _view(self, number: int, prediction: Prediction) -> SliceView:
        assert self._colours is not None
        image, anomaly_map = prediction.pixels, prediction.anomaly_map
        return slice_view(number, image, anomaly_map, self._colours, self._pixel_threshold)
