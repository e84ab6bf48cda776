"""A DICOM series as a volume: one file is read for one of its own slices, all for other axes."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import ImageFile, RawImage, SliceAxis
from datasets.readers.dicom import DicomFile
from datasets.readers.errors import named_errors
from datasets.readers.volume import VolumeFile, sampled
from datasets.volumes.grid import grid_of, laid_on_grid
from datasets.volumes.planes import Plane
from datasets.volumes.series import Series
from utils.errors import UserError
from utils.intensity import IntensityWindow, Limits

# Threads that look at a split must not each load the volume.
_loading = threading.Lock()


class SeriesFile(VolumeFile):
    """A series, cut along one axis, in the voxel order of :func:`grid_of`.

    Along the stack's own direction the slices are the pictures of the files, wherever they are in
    space; ``shape`` counts them. Along other axes they are cut from the straight grid.
    """

    def __init__(self, series: Series, axis: SliceAxis) -> None:
        grid = grid_of(series)
        super().__init__(grid.shape, grid.affine, axis)
        self._series = series
        self.straight = series.straight
        self.own_slices = self.cut == 2
        if self.own_slices:
            rows, columns = series.planes[0].size
            self.shape = (columns, rows, len(series.planes))
            self.num_frames = len(series.planes)

    def plane(self, frame: int) -> Plane | None:
        """The slice of a DICOM file that a frame is; None if it is cut from many."""
        return self._series.planes[self.position(frame)] if self.own_slices else None

    def pixels(self, frame: int, window: IntensityWindow) -> NDArray[np.uint8]:
        """A slice as (H, W) or (H, W, 3) of 8 bits; all slices share their window."""
        if plane := self.plane(frame):
            return self.shown(_picture(plane, self._series, window))
        with _loading:
            volume = _volume(self._series, window)
        return self.plane_of(volume, frame)

    def shown(self, picture: NDArray[Any]) -> NDArray[Any]:
        """(rows, columns, …) of a slice as its file stores it, turned as it is looked at."""
        return self._shown(_slab(picture))

    def values(self, *where: slice) -> NDArray[Any]:
        """Values of a mask: as stored for its own slices, as marked or not for other axes."""
        if not self.own_slices:
            with _loading:
                return _marks(self._series)[where]
        slabs = [_slab(_marked(plane)) for plane in self._series.planes[where[2]]]
        return np.concatenate(slabs, axis=2)[where[:2]]

    def on_grid(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of all slices, of ``shape``, laid on :func:`grid_of`."""
        if not self.own_slices:
            return values
        return laid_on_grid(self.as_stack(values), self._series, peaks=True)

    def as_stack(self, values: NDArray[Any]) -> NDArray[Any]:
        """(columns, rows upwards, N) as (N, rows, columns), one per plane; a view."""
        return values.transpose(2, 1, 0)[:, ::-1]


class SliceMask(ImageFile):
    """The mask of one slice of a series, drawn on the picture of that slice's own file."""

    def __init__(self, file: ImageFile, image: SeriesFile) -> None:
        self._file, self._image = file, image
        self.num_frames = image.num_frames

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width), turned as the slice is."""
        rows, columns = self._file.size(0)
        turned = self._image.shown(np.empty((rows, columns)))
        return turned.shape[0], turned.shape[1]

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Stored values, (H, W) or (H, W, C), turned as the slice is."""
        return self._image.shown(self._file.read_mask(0))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _slab(picture: NDArray[Any]) -> NDArray[Any]:
    """(rows, columns, …) as (columns, rows upwards, 1, …)."""
    return np.swapaxes(picture[::-1], 0, 1)[:, :, None]


# An enhanced file of many frames has a long header.
@lru_cache(maxsize=2)
def _opened(path: Path, stamp: int) -> DicomFile:
    return DicomFile(path)


def _read(plane: Plane, how: Callable[[DicomFile, int], Any]) -> Any:
    """The result of ``how`` for one slice; errors name its file."""
    with named_errors(plane.path):
        return how(_opened(plane.path, plane.path.stat().st_mtime_ns), plane.frame or 0)


def _marked(plane: Plane) -> NDArray[Any]:
    """Stored values of a slice of a mask; with several segments, the highest."""
    if plane.empty:
        return np.zeros(plane.size, np.uint8)
    return np.maximum.reduce([_read(each, DicomFile.read_mask) for each in (plane, *plane.joined)])


def _picture(plane: Plane, series: Series, window: IntensityWindow) -> NDArray[np.uint8]:
    """(rows, columns), through the window of all slices or the percentiles of the volume."""
    raw: RawImage = _read(plane, DicomFile.read)
    if raw.values.ndim == 2:
        shared = len({each.window for each in series.planes}) == 1
        raw = replace(
            raw, percentiles=partial(_percentiles, series), display=raw.display if shared else None
        )
    return raw.windowed(window)


@lru_cache(maxsize=256)
def _percentiles(series: Series, chosen: Limits) -> NDArray[np.float64]:
    """Those of voxels from all over the volume, as for a NIfTI file."""
    numbers, *where = sampled((len(series.planes), *series.planes[0].size))
    voxels = []
    for plane in series.planes[numbers]:
        try:
            raw: RawImage = _read(plane, DicomFile.read)
        # Reading that slice for its score reports the error.
        except UserError:
            continue
        inside = np.isfinite(raw.values) if raw.values.dtype.kind == "f" else True
        inside = inside if raw.padding is None else inside & ~raw.padding
        inside = np.broadcast_to(inside, raw.values.shape)[tuple(where)]
        voxels.append(raw.values[tuple(where)][inside])
    found = np.concatenate(voxels)
    return np.percentile(found, chosen) if found.size else np.zeros(2)


# One: of 512 × 512 × 400 voxels it is 100 MB, and 1 GB while it is made.
@lru_cache(maxsize=1)
def _volume(series: Series, window: IntensityWindow) -> NDArray[np.uint8]:
    """All slices on the straight grid; black where there is none."""
    pictures = np.stack([_picture(plane, series, window) for plane in series.planes])
    if pictures.ndim > 3:
        raise ValueError("is in colour; colour series can only be read along their own slices")
    return np.rint(laid_on_grid(pictures.astype(np.float32), series)).astype(np.uint8)


@lru_cache(maxsize=1)
def _marks(series: Series) -> NDArray[np.bool_]:
    """Where a mask marks the straight grid."""
    marked = [np.atleast_3d(_marked(plane) > 0).any(axis=2) for plane in series.planes]
    return laid_on_grid(np.stack(marked).astype(np.float32), series, peaks=True) >= 0.5
