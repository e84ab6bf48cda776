"""The anomaly map of one volume, filled slice by slice."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.folders.samples import Sample
from datasets.readers.image import open_image
from datasets.readers.volume import VolumeFile
from datasets.volumes.grid import Grid, grid_of
from datasets.volumes.series_file import SeriesFile


class VolumeMap:
    """Maps and scores of the slices of one volume. Slices that are not added are 0.

    Args:
        sample: Any of its slices.
        keep_maps: Whether to keep the maps as well as the scores.
    """

    def __init__(self, sample: Sample, *, keep_maps: bool = True) -> None:
        with open_image(sample.source, sample.axis, volume=sample.volume) as file:
            assert isinstance(file, VolumeFile)
            self.file = file
        self.sample = sample
        self.grid = grid_of(sample.series) if sample.series else Grid(file.shape, file.affine)
        self.scores: dict[int, float] = {}
        self._values = np.zeros(file.shape, np.float32) if keep_maps else None

    def add(self, sample: Sample, score: float, anomaly_map: NDArray[np.float32]) -> None:
        """Take one slice, its map (H, W) as large as the slice."""
        frame = sample.frame
        assert frame is not None
        self.scores[frame] = score
        if self._values is not None:
            self.file.plane_of(self._values, frame)[:] = anomaly_map

    @property
    def nifti(self) -> Path | None:
        """Its file, if that is a NIfTI file."""
        return None if self.sample.series else self.sample.path

    @property
    def worst_slice(self) -> int | None:
        """The slice with the highest score, from 0; None if no slice counts."""
        return max(self.scores, key=self.scores.__getitem__, default=None)

    def on_grid(self) -> NDArray[np.float32]:
        """(X, Y, Z), the map on ``grid``."""
        assert self._values is not None
        file = self.file
        return file.on_grid(self._values) if isinstance(file, SeriesFile) else self._values

    def as_stack(self) -> NDArray[np.float32] | None:
        """(N, rows, columns), on the slices of a DICOM series; None if it is on others."""
        assert self._values is not None
        if isinstance(self.file, SeriesFile) and (self.file.own_slices or self.file.straight):
            return self.file.as_stack(self._values)
        return None
