"""The files of a prediction: tables, raw maps, overlays, and the overlays' legend."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets.folders.samples import Sample
from datasets.prediction_dataset import Input
from engine.evaluate.calibration import ColourScale
from engine.report.pictures import overlay
from utils.checkpoints import write_atomically, write_csv
from utils.plots import plot_legend

# Bytes that file systems allow in a name, less what our suffixes need.
_LONGEST_NAME = 200


class PredictionFiles:
    """Writes results as they come, tables at the end.

    Args:
        folder: Where results go.
        root: Folder that the inputs' paths are relative to.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.root = root
        self.errors: list[tuple[str, str]] = []
        self.scores: list[float] = []
        self._rows: list[list[str]] = []

    @property
    def num_images(self) -> int:
        """Images written so far."""
        return len(self._rows)

    def note_error(self, sample: Sample, error: str) -> None:
        """Remember a file that could not be read or written."""
        self.errors.append((sample.name, error))

    def write_image(
        self,
        each: Input,
        score: float,
        predicted: bool | None,
        anomaly_map: NDArray[np.float32],
        colours: ColourScale | None,
    ) -> None:
        """Write one image's raw map (.npy, float32) and, with a colour scale, its overlay (.png).

        Args:
            each: The input.
            score: Its anomaly score.
            predicted: Its verdict, None without a threshold.
            anomaly_map: (H, W) at the input's own size.
            colours: The scale of the overlay.

        Raises:
            UserError: A file cannot be written.
        """
        assert each.pixels is not None
        name = self._name(each.sample)
        map_path = self.folder / "maps" / f"{name}.npy"
        write_atomically(map_path, lambda file: np.save(file, anomaly_map))
        overlay_path = None
        if colours is not None:
            overlay_path = self.folder / "overlays" / f"{name}.png"
            grey = each.pixels.ndim == 2
            rgb = np.repeat(each.pixels[..., None], 3, axis=2) if grey else each.pixels
            picture = overlay(rgb, anomaly_map, colours)
            encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
            write_atomically(overlay_path, lambda file: file.write(encoded))
        verdict = "" if predicted is None else str(int(predicted))
        paths = [
            str(path.relative_to(self.folder)) if path else "" for path in (map_path, overlay_path)
        ]
        self._rows.append([each.sample.name, repr(score), verdict, *paths])
        self.scores.append(score)

    def _name(self, sample: Sample) -> Path:
        """A name under ``maps`` and ``overlays``, one for each sample, close to the input's."""
        relative = sample.path.relative_to(self.root)
        name = relative.name if sample.frame is None else f"{relative.name}.{sample.frame:04d}"
        if len(name.encode(errors="surrogateescape")) > _LONGEST_NAME:
            digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
            name = f"{name[:40]}-{digest}"
        return relative.with_name(name)

    def write_tables(self, colours: ColourScale | None) -> None:
        """Write scores.csv, errors.csv and, with a colour scale, legend.png.

        Raises:
            UserError: A file cannot be written.
        """
        header = ["path", "score", "predicted", "map", "overlay"]
        write_csv(self.folder / "scores.csv", header, self._rows)
        write_csv(self.folder / "errors.csv", ["path", "error"], self.errors)
        if colours is not None:
            legend = self.folder / "legend.png"
            plot_legend((colours.low, colours.high), colours.source, legend)
