"""NIfTI volumes: slices along an anatomical axis, as radiologists look at them.

Voxels are taken in the closest canonical orientation (RAS: to the patient's right, to the front,
upwards). Front or head is up; the patient's right is on the left of axial and coronal slices, the
front on the left of sagittal ones.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.formats import shown
from datasets.raw import RawImage, SliceAxis, optional_package
from utils.errors import UserError
from utils.intensity import Limits

# Position of the slicing axis in RAS.
_AXES: dict[SliceAxis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
# A compressed volume of up to this many bytes is kept while its slices are asked for.
_KEPT_BYTES = 2**28
_PERCENTILE_VOXELS = 2**18

_unpacking = threading.Lock()


class NiftiFile:
    """A volume, cut along one axis; frame 0 is its leftmost, hindmost or lowest slice.

    Args:
        path: A ``.nii`` or ``.nii.gz`` file.
        axis: Which slices.

    Raises:
        UserError: nibabel is missing, or the file is no grey volume of three dimensions.
    """

    def __init__(self, path: Path, axis: SliceAxis) -> None:
        self._path = path
        volume = optional_package("nibabel").load(path)
        self._data = volume.dataobj
        self._shape = tuple(int(length) for length in volume.shape)
        _check_shape(path, self._shape, volume.get_data_dtype())
        turns = optional_package("nibabel.orientations").io_orientation(volume.affine)
        if not np.isfinite(turns).all():
            raise UserError(f"{shown(path)}: its affine names no orientation; mend its header")
        # Of each voxel axis: the axis of RAS that it follows, and whether it runs against it.
        self._ras = [int(turn) for turn in turns[:, 0]]
        self._against = [turn < 0 for turn in turns[:, 1]]
        self._cut = self._ras.index(_AXES[axis])

    @property
    def num_frames(self) -> int:
        """Number of slices."""
        return self._shape[self._cut]

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width), which all slices share."""
        first, second = sorted(self._plane_axes(), key=lambda each: self._ras[each])
        return self._shape[second], self._shape[first]

    def read(self, frame: int) -> RawImage:
        """Scaled intensities; percentiles are those of the volume, so that slices compare."""
        return RawImage(self.read_mask(frame), percentiles=self._percentiles)

    def read_mask(self, frame: int) -> NDArray[Any]:
        """A slice's values, (H, W)."""
        position = self.num_frames - 1 - frame if self._against[self._cut] else frame
        where: list[Any] = [slice(None)] * 3 + [0] * (len(self._shape) - 3)
        where[self._cut] = position
        plane = self._values(tuple(where))
        first, second = self._plane_axes()
        turned = [-1 if self._against[each] else 1 for each in (first, second)]
        plane = plane[:: turned[0], :: turned[1]]
        if self._ras[first] > self._ras[second]:
            plane = plane.T
        # (right or front, front or up) → rows downwards, columns to the patient's left or back.
        return plane[::-1, ::-1].T

    def _plane_axes(self) -> tuple[int, int]:
        first, second = (each for each in range(3) if each != self._cut)
        return first, second

    def _values(self, where: tuple[Any, ...]) -> NDArray[Any]:
        """Scaled values at an index; of a compressed file, by way of the whole volume."""
        size = math.prod(self._shape) * self._data.dtype.itemsize
        if self._path.suffix.lower() != ".gz" or size > _KEPT_BYTES:
            return np.asanyarray(self._data[where])
        # Unpacking starts at a file's beginning, whichever slice is asked for.
        with _unpacking:
            stored = _unpacked(self._path, self._path.stat().st_mtime_ns)
        scale = optional_package("nibabel.volumeutils").apply_read_scaling
        return np.asanyarray(scale(stored[where], self._data.slope, self._data.inter))

    def _percentiles(self, low: float, high: float) -> Limits:
        stamp = self._path.stat().st_mtime_ns
        return _volume_percentiles(self._path, stamp, low, high)

    def sample(self) -> NDArray[Any]:
        """About 260,000 voxels from all over the volume."""
        step = math.ceil((math.prod(self._shape) / _PERCENTILE_VOXELS) ** (1 / 3))
        every = slice(None, None, max(step, 1))
        return self._values((every,) * 3 + (0,) * (len(self._shape) - 3))

    def close(self) -> None:
        """Nothing is held open."""


@lru_cache(maxsize=1)
def _unpacked(path: Path, stamp: int) -> NDArray[Any]:
    return np.asanyarray(optional_package("nibabel").load(path).dataobj.get_unscaled())


@lru_cache(maxsize=4096)
def _volume_percentiles(path: Path, stamp: int, low: float, high: float) -> Limits:
    voxels = NiftiFile(path, "axial").sample().astype(np.float64)
    if not np.isfinite(voxels).all():
        raise ValueError("holds NaN or infinite intensities")
    black, white = np.percentile(voxels, (low, high))
    return float(black), float(white)


def _check_shape(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    dimensions = " × ".join(str(length) for length in shape)
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise UserError(
            f"{shown(path)}: has {len(shape)} dimensions ({dimensions}) instead of 3; save each "
            "volume as a file of its own, for instance with nibabel.four_to_three"
        )
    if dtype.fields is not None or dtype.kind not in "iufb":
        raise UserError(f"{shown(path)}: holds {dtype} instead of grey values; save it as grey")
