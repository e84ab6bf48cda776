"""The files of a prediction: tables, raw maps, overlays, and the overlays' legend."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from datasets.folders.samples import Sample
from datasets.readers.formats import absolute, stem_of
from engine.evaluate.calibration_file import ColourScale
from engine.predictor import Prediction, Predictor
from engine.report.pictures import overlay
from utils.errors import UserError
from utils.files import write_atomically, write_csv
from utils.plots import plot_legend
from utils.run_files import remove

# Bytes that file systems allow in a name, less what our suffixes need.
_LONGEST_NAME = 200
_HEADER = ["path", "score", "predicted", "map", "overlay"]
# What a prediction writes in its folder, which may also contain the user's own files.
_WRITTEN = (
    *("scores.csv", "volumes.csv", "errors.csv", "legend.png", "report.html", "overlays/**/*.png"),
    *(f"maps/**/*{end}" for end in (".npy", "_map.nii.gz", "_mask.nii.gz", "_seg.dcm")),
)


def short_name(name: str) -> str:
    """A file name that file systems take, with room for a suffix."""
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= _LONGEST_NAME:
        return name
    return f"{name[:40]}-{hashlib.sha256(encoded).hexdigest()[:16]}"


class PredictionFiles:
    """Writes results as they come, tables at the end.

    Args:
        folder: Where results go.
        root: Folder above all inputs, see :func:`datasets.folders.inputs.common_folder`.
        maps: Whether maps are written.
        overlays: Whether overlays are.
    """

    def __init__(self, folder: Path, root: Path, maps: bool = True, overlays: bool = True) -> None:
        self.folder = folder
        self.errors: list[tuple[str, str]] = []
        self.scores: list[float] = []
        self._root, self._maps, self._overlays = root, maps, overlays
        self._rows: list[tuple[str, float, int | None, str, str]] = []
        self._volumes = set[Path]()

    def exist(self) -> bool:
        """Whether there are results of a prediction."""
        return any(self._written())

    def remove(self) -> None:
        """Remove the results of another prediction, and nothing else."""
        for path in list(self._written()):
            remove(path)

    def _written(self) -> Iterator[Path]:
        return (path for pattern in _WRITTEN for path in self.folder.glob(pattern))

    def note_error(self, sample: Sample, error: str) -> None:
        """Note what could not be read or written; of a volume, each fault once."""
        if sample.volume_name is not None and self.errors and self.errors[-1][1] == error:
            self.errors[-1] = (str(sample.volume_name), error)
            return
        self.errors.append((sample.name, error))

    def write_image(self, sample: Sample, prediction: Prediction, predictor: Predictor) -> None:
        """Write one image's raw map (.npy, float32) and, with a colour scale, its overlay (.png).

        A slice of a volume has neither: its map is part of the volume's. What cannot be written is
        an error of this image; its score is kept.
        """
        alone = sample.volume_name is None
        map_path = overlay_path = ""
        try:
            if self._maps and alone:
                map_path = self._write_map(sample, prediction)
            if self._overlays and alone and predictor.colours is not None:
                overlay_path = self._write_overlay(sample, prediction, predictor)
        except UserError as error:
            self.note_error(sample, str(error))
        score, predicted = prediction.score, prediction.predicted
        called = None if predicted is None else int(predicted)
        self._rows.append((sample.name, score, called, map_path, overlay_path))
        self.scores.append(score)

    def write_background(self, sample: Sample) -> None:
        """Note a slice that shows too little to be scored."""
        self._rows.append((sample.name, 0.0, None, "", ""))

    def _write_map(self, sample: Sample, prediction: Prediction) -> str:
        path = self._path("maps", sample, ".npy")
        write_atomically(path, lambda file: np.save(file, prediction.anomaly_map))
        return str(path.relative_to(self.folder))

    def _write_overlay(self, sample: Sample, prediction: Prediction, predictor: Predictor) -> str:
        assert predictor.colours is not None
        path = self._path("overlays", sample, ".png")
        pixels = prediction.pixels
        rgb = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels
        threshold = predictor.pixel_threshold
        picture = overlay(rgb, prediction.anomaly_map, predictor.colours, threshold)
        encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        write_atomically(path, lambda file: file.write(encoded))
        return str(path.relative_to(self.folder))

    def _path(self, kind: str, sample: Sample, suffix: str) -> Path:
        """A name under ``maps`` or ``overlays``, one for each sample, close to the input's."""
        relative = absolute(sample.path).relative_to(self._root)
        name = relative.name if sample.frame is None else f"{relative.name}.{sample.frame:04d}"
        return self.folder / kind / relative.with_name(f"{short_name(name)}{suffix}")

    def volume_path(self, volume: Path) -> Path:
        """The name under ``maps`` of a volume's files, less ``_map.nii.gz`` and the like."""
        # The folder of a series may be the input itself.
        path = absolute(volume)
        relative = path.relative_to(self._root.parent if path == self._root else self._root)
        first = self.folder / "maps" / relative.with_name(short_name(stem_of(relative)))
        path, number = first, 1
        while path in self._volumes:
            number += 1
            path = first.with_name(f"{first.name}-{number}")
        self._volumes.add(path)
        return path

    def write_errors(self) -> None:
        """Write errors.csv."""
        write_csv(self.folder / "errors.csv", ["path", "error"], self.errors)

    def write_tables(self, colours: ColourScale | None) -> None:
        """Write scores.csv, errors.csv and, with a colour scale, legend.png."""
        write_csv(self.folder / "scores.csv", _HEADER, self._rows)
        self.write_errors()
        if colours is not None:
            legend = self.folder / "legend.png"
            plot_legend((colours.low, colours.high), colours.source, legend)

    def summary(self, threshold: float | None) -> str:
        """What to print at the end; for one image, all that is known."""
        if len(self._rows) == 1 and not self.errors:
            ((_, score, predicted, map_path, _),) = self._rows
            verdict = "no threshold"
            if threshold is not None:
                called = "anomalous" if predicted else "normal"
                verdict = f"{called} (threshold {threshold:.6g})"
            where = f"; map: {self.folder / map_path}" if map_path else ""
            return f"score {score:.6g}: {verdict}{where}"
        count, errors = len(self.scores), len(self.errors)
        text = "1 image scored" if count == 1 else f"{count} images scored"
        if background := len(self._rows) - count:
            text += f", {background} background slices skipped"
        if threshold is not None:
            anomalous = sum(predicted == 1 for _, _, predicted, *_ in self._rows)
            text += f", {anomalous} called anomalous (threshold {threshold:.6g})"
        if self._rows:
            name, score, *_ = max(self._rows, key=lambda row: row[1])
            text += f", highest score {score:.6g}: {name}"
        first = f" ({self.errors[0][1]})" if errors == 1 else ""
        counted = "1 error" if errors == 1 else f"{errors} errors"
        return f"{text}\n{counted}{first}; all files are in {self.folder}"
