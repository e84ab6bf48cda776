"""The result of an upload, and what the page shows of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.pictures import numbers, png
from datasets.prediction_dataset import Input
from datasets.readers.formats import shown, stem_of
from datasets.volumes.grid import Grid
from datasets.volumes.map_files import write_nifti
from engine.predictor import Prediction, Predictor, VolumePrediction
from engine.report.pictures import ColourScale, map_layer, shrunk

View = dict[str, Any]

# Two per screen in width are enough; the files to download keep their own size.
_LONGEST_SIDE = 768


@dataclass(frozen=True)
class Result:
    """A scored picture, or a scored volume.

    Attributes:
        name: Of the file, for people.
        slices: Of a volume in their order, None for one of background; one for a picture.
        volume: None for a picture.
        map_file: The map to download.
        notes: What is unusual about the file.
    """

    name: str
    slices: list[tuple[Input, Prediction | None]]
    volume: VolumePrediction | None
    map_file: Path
    notes: Sequence[str] = ()

    @property
    def first(self) -> int:
        """The slice to look at first: the worst one."""
        return (self.volume.worst_slice or 0) if self.volume else 0

    def view(self, number: int, predictor: Predictor) -> View:
        """A slice, or the picture, as viewer.js draws it.

        Args:
            number: Of the slice, from 0; that of a picture is 0.
            predictor: That scored it.
        """
        each, prediction = self.slices[number]
        scores, volume = [found and found.score for _, found in self.slices], self.volume
        height, width = each.pixels.shape[:2]
        calibration = predictor.calibration
        histogram = calibration.histogram if calibration else None
        return {
            "id": str(self.map_file),
            "name": self.name,
            "notes": list(self.notes),
            "size": f"{width} × {height} pixels",
            "shape": width / height,
            "image": png(shrunk(each.pixels, _LONGEST_SIDE)),
            "slice": volume and {"number": number, "scores": scores},
            "volume": volume
            and {
                "score": volume.score,
                "threshold": predictor.volume_threshold,
                "worst": volume.worst_slice,
            },
            "map": {"path": str(self.map_file), "name": self.map_file.name},
            "threshold": predictor.threshold,
            "pixel_threshold": predictor.pixel_threshold,
            "histogram": histogram,
            **({} if prediction is None else self._prediction(prediction, predictor)),
        }

    def _prediction(self, prediction: Prediction, predictor: Predictor) -> View:
        values = shrunk(prediction.anomaly_map, _LONGEST_SIDE)
        low, high = self._range
        colours = predictor.colours or ColourScale(low, high, self.name)
        return {
            "score": prediction.score,
            "reconstruction": png(prediction.reconstruction),
            "layer": png(map_layer(values, colours)),
            "values": {
                "numbers": numbers(values, low, high),
                "size": [values.shape[1], values.shape[0]],
                "range": [low, high],
            },
        }

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The lowest and the highest value of all maps; there is at least one."""
        maps = [each.anomaly_map for _, each in self.slices if each]
        low, high = min(float(each.min()) for each in maps), max(float(each.max()) for each in maps)
        return low, high if high > low else low + 1


def map_file(folder: Path, source: Path, prediction: Prediction | VolumePrediction) -> Path:
    """Write a map to download: .npy of a picture, .nii.gz of a volume on its own grid.

    Args:
        folder: Where to.
        source: What the map is called after.
        prediction: Of the picture or of the volume.
    """
    values: NDArray[np.float32] = prediction.anomaly_map
    stem = shown(Path(stem_of(source)))
    if isinstance(prediction, Prediction):
        path = folder / f"{stem}_map.npy"
        np.save(path, values)
        return path
    path = folder / f"{stem}_map.nii.gz"
    x, y, z = values.shape
    write_nifti(path, values, Grid((x, y, z), prediction.affine))
    return path
