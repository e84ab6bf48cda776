"""NIfTI volumes.

NaN and infinite values are background: many pipelines write them around the brain.
"""

import gzip
import math
import shutil
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import RawImage, SliceAxis, optional_package
from datasets.readers.formats import shown
from datasets.readers.volume import VolumeFile, sampled
from utils.errors import UserError
from utils.intensity import Limits

# A compressed file of up to this many bytes is unpacked into memory.
_KEPT_BYTES = 2**29
_CHUNK_BYTES = 2**20
# Below any window, and small enough not to overflow in float64.
_BACKGROUND = np.finfo(np.float32).min

_unpacking = threading.Lock()


class NiftiFile(VolumeFile):
    """One volume of a NIfTI file."""

    def __init__(self, path: Path, axis: SliceAxis, volume: int = 0) -> None:
        nibabel = optional_package("nibabel")
        # nibabel has its own handler, which prints what it logs.
        nibabel.imageglobals.logger.handlers.clear()
        header = nibabel.load(path)
        stored = tuple(int(length) for length in header.shape)
        _check_shape(path, stored, header.get_data_dtype())
        self.num_volumes = math.prod(stored[3:])
        if volume >= self.num_volumes:
            raise UserError(
                f"{shown(path)}: has no volume {volume}, only {self.num_volumes} in all; lower "
                "VOLUME_INDEX"
            )
        self._path, self._volume, self._data = path, volume, header.dataobj
        try:
            columns, rows, slices = (*stored, 1)[:3]
            super().__init__((columns, rows, slices), header.affine, axis)
        except ValueError as error:
            raise UserError(f"{shown(path)}: {error}; fix its header") from error

    @property
    def is_deep(self) -> bool:
        """Whether it is grey with values other than bytes."""
        stored = self._data
        is_bytes = (stored.dtype, stored.slope, stored.inter) == (np.uint8, 1, 0)
        return stored.dtype.fields is None and not is_bytes

    def read(self, frame: int) -> RawImage:
        """Scaled intensities; percentiles are those of the volume, so that slices compare."""
        plane = self._plane(frame)
        stamp = self._path.stat().st_mtime_ns
        return RawImage(
            np.where(np.isfinite(plane), plane, _BACKGROUND) if plane.dtype.kind == "f" else plane,
            percentiles=partial(_percentiles, self._path, stamp, self._volume),
        )

    def values(self, *where: slice) -> NDArray[Any]:
        """(X, Y, Z) or (X, Y, Z, 3) scaled values; a compressed file is unpacked once."""
        shape = self._data.shape
        index: tuple[Any, ...] = (*where, self._volume, *[0] * len(shape))[: len(shape)]
        if self._path.suffix.lower() != ".gz":
            return _channels(np.asanyarray(self._data[index]))
        # Any slice needs unpacking from the file's beginning.
        with _unpacking:
            stored = _unpacked(self._path, self._path.stat().st_mtime_ns)
        scale = optional_package("nibabel.volumeutils").apply_read_scaling
        return _channels(scale(stored[index], self._data.slope, self._data.inter))


# Two: slices of an image and of its mask are read in turns.
@lru_cache(maxsize=2)
def _unpacked(path: Path, stamp: int) -> NDArray[Any]:
    """Stored values, in memory or, for a large file, in an anonymous temporary file."""
    header = optional_package("nibabel").load(path)
    with _whole_stream(path) as stream:
        if math.prod(header.shape) * header.get_data_dtype().itemsize <= _KEPT_BYTES:
            return _stored(type(header), stream)
        with TemporaryFile() as file:
            shutil.copyfileobj(stream, file)
            return _stored(type(header), file)


def _stored(kind: Any, file: IO[bytes] | gzip.GzipFile) -> NDArray[Any]:
    """Values of an open file, unscaled; mapped if it is on the disk."""
    holder = optional_package("nibabel.fileholders").FileHolder(fileobj=file)
    return np.asanyarray(kind.from_file_map({"image": holder}).dataobj.get_unscaled())


@contextmanager
def _whole_stream(path: Path) -> Iterator[gzip.GzipFile]:
    """A compressed file that is read to its end, where its checksum is."""
    try:
        with gzip.open(path) as stream:
            yield stream
            while stream.read(_CHUNK_BYTES):
                pass
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"its compressed data are damaged or cut off: {error}") from error


@lru_cache(maxsize=4096)
def _percentiles(path: Path, stamp: int, volume: int, chosen: Limits) -> NDArray[np.float64]:
    """Those of voxels from all over the volume."""
    file = NiftiFile(path, "axial", volume)
    voxels = file.values(*sampled(file.shape)).astype(np.float64)
    voxels = voxels[np.isfinite(voxels)]
    if not voxels.size:
        raise ValueError("contains only NaN or infinite values")
    return np.percentile(voxels, chosen)


def _channels(values: NDArray[Any]) -> NDArray[Any]:
    """Three axes, and a fourth for red, green and blue, without alpha."""
    values = np.atleast_3d(values)
    if values.dtype.fields is None:
        return values
    return np.stack([values[name] for name in "RGB"], axis=-1)


def _check_shape(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    dimensions = " × ".join(str(length) for length in shape)
    if len(shape) < 2 or any(length != 1 for length in shape[4:]):
        raise UserError(
            f"{shown(path)}: has {len(shape)} dimensions ({dimensions}) instead of 2 to 4; save "
            "each volume as a separate file"
        )
    if dtype.fields is None and dtype.kind not in "iufb":
        raise UserError(f"{shown(path)}: contains {dtype} instead of grey values; save it as grey")
