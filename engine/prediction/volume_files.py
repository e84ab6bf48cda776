"""The files of the volumes of a prediction: volumes.csv, maps, masks and DICOM SEG objects."""

import logging
from pathlib import Path

import numpy as np

from datasets.folders.samples import Sample
from datasets.readers.formats import shown
from datasets.volumes.map_files import forms_agree, write_nifti, write_segmentation
from engine.prediction.report_volumes import ReportVolumes
from engine.prediction.results import PredictionFiles
from engine.prediction.volume_map import VolumeMap
from engine.predictor import Prediction, Predictor
from engine.report.volumes import ScoredVolume
from utils.errors import UserError
from utils.files import write_csv

logger = logging.getLogger(__name__)

_HEADER = [*("path", "score", "predicted", "num_slices", "num_anomalous", "worst_slice", "map")]


class VolumeFiles:
    """Collects the slices of one volume after the other, and writes each when it is complete."""

    def __init__(
        self, files: PredictionFiles, predictor: Predictor, *, maps: bool, dicom_seg: bool
    ) -> None:
        self._pixel_threshold = predictor.pixel_threshold
        if dicom_seg and self._pixel_threshold is None:
            logger.warning("no DICOM SEG will be written: there is no pixel threshold")
        self._files, self._maps, self._dicom_seg = files, maps, dicom_seg
        self._rule = predictor.volume_rule
        self.report = ReportVolumes(predictor)
        self._volume: VolumeMap | None = None
        self._name: Path | None = None
        self._rows: list[tuple[object, ...]] = []
        self._line = ""
        self._unread = 0

    def turn_to(self, sample: Sample | None) -> None:
        """Begin the volume of a sample, unless it is the one that is open; write that one."""
        name = sample.volume_name if sample else None
        if name == self._name:
            return
        if self._volume is not None:
            self._write(self._volume)
        self._name, self._volume, self._unread = name, None, 0

    def miss(self) -> None:
        """Count a slice of the open volume that cannot be read."""
        self._unread += 1

    def add(self, sample: Sample, prediction: Prediction | None) -> None:
        """Take a slice of the open volume; None if it shows too little to be scored."""
        if self._name is None:
            return
        if self._volume is None:
            self._volume = VolumeMap(sample, keep_maps=self._maps or self._dicom_seg)
            self.report.begin(self._volume.file)
        if prediction is not None:
            self._volume.add(sample, prediction.score, prediction.anomaly_map)
            self.report.add(sample.frame or 0, prediction)

    def write_table(self) -> None:
        """Write the last volume, and volumes.csv where there are volumes."""
        self.turn_to(None)
        if self._rows:
            write_csv(self._files.folder / "volumes.csv", _HEADER, self._rows)

    def summary(self) -> str:
        """A line on the volumes; "" if there are none."""
        if len(self._rows) < 2:
            return f"{self._line}\n" if self._rows else ""
        anomalous = sum(volume.predicted == 1 for volume in self.report.entries)
        highest = self.report.entries[0]
        return (
            f"{len(self._rows)} volumes, {anomalous} called anomalous, highest score "
            f"{highest.score:.6g}: {highest.name}\n"
        )

    def _write(self, volume: VolumeMap) -> None:
        """Write one volume; a file that cannot be written is an error, but the score is kept."""
        map_path = ""
        try:
            map_path = self._write_files(volume)
        except UserError as error:
            self._note_error(error)
        score, predicted, *counts = self._rule.cells(list(volume.scores.values()))
        if self._unread and predicted == 0:
            predicted = None  # what decides may be in the slices that are missing
        row = (str(self._name), score, predicted, *counts, volume.worst_slice, map_path)
        self._rows.append(row)
        verdict = {None: "no verdict", 0: "normal", 1: "anomalous"}[predicted]
        name = shown(self._name or volume.sample.path)
        self._line = f"{name}: score {score:.6g}: {verdict}"
        if volume.scores:
            self._line += f", worst slice {volume.worst_slice}"
            if self._unread:
                self._line += f"; {self._unread} slices could not be read"
        else:
            logger.warning(
                "%s: no slice has enough foreground to score (MIN_FOREGROUND): no verdict", name
            )
        scored = ScoredVolume(str(self._name), score, predicted)
        self.report.finish(scored, volume.scores)

    def _write_files(self, volume: VolumeMap) -> str:
        assert self._name is not None
        path, threshold = self._files.volume_path(self._name), self._pixel_threshold
        map_path = path.with_name(f"{path.name}_map.nii.gz")
        if self._maps:
            self._tell_place(volume)
            values, source = volume.on_grid(), volume.nifti
            write_nifti(map_path, values, volume.grid, source)
            if threshold is not None:
                mask = (values >= threshold).view(np.uint8)
                mask_path = path.with_name(f"{path.name}_mask.nii.gz")
                write_nifti(mask_path, mask, volume.grid, source)
        if self._dicom_seg and threshold is not None and volume.sample.series is not None:
            try:
                self._write_segmentation(volume, path.with_name(f"{path.name}_seg.dcm"), threshold)
            except UserError as error:
                self._note_error(error)
        return str(map_path.relative_to(self._files.folder)) if self._maps else ""

    def _write_segmentation(self, volume: VolumeMap, path: Path, threshold: float) -> None:
        stack, series = volume.as_stack(), volume.sample.series
        assert series is not None
        if stack is None:
            raise UserError(
                f"{shown(series.name)}: no DICOM SEG was written: its slices are not on a regular "
                "grid, and SLICE_AXIS cuts across them; set SLICE_AXIS to the direction of its "
                "slices"
            )
        marked = f"pixel score {threshold:.6g} or more"
        try:
            write_segmentation(path, stack >= threshold, series, marked)
        except UserError:
            raise
        # highdicom demands what many files lack, and raises anything.
        except Exception as error:
            kept = ", but its map was" if self._maps else ""
            raise UserError(
                f"{shown(series.name)}: no DICOM SEG was written ({error}){kept}"
            ) from error

    def _note_error(self, error: UserError) -> None:
        self._files.errors.append((str(self._name), str(error)))

    def _tell_place(self, volume: VolumeMap) -> None:
        name = shown(self._name or volume.sample.path)
        if skew := volume.grid.skew:
            logger.warning(
                "%s: its axes are up to %.1f degrees away from perpendicular, and so are those of "
                "its map: SimpleITK, 3D Slicer and ITK-SNAP refuse such files",
                name,
                skew,
            )
        if volume.nifti and not forms_agree(volume.nifti):
            logger.warning(
                "%s: its position is ambiguous: its sform and qform disagree, or neither is set. "
                "Its map copies both, so any viewer lays it over its source",
                name,
            )
