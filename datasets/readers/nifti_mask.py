"""NIfTI masks of volumes, brought to the grid of their image."""

from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import ImageFile, SliceAxis, optional_package
from datasets.readers.formats import shown
from datasets.readers.nifti import NiftiFile
from datasets.readers.volume import VolumeFile
from datasets.volumes.grid import places_of
from datasets.volumes.series_file import SeriesFile
from utils.errors import UserError

# In voxels: by how much rounding and the two forms of a header's affine differ.
_TOLERANCE = 1e-3


class NiftiMask(VolumeFile):
    """A mask cut as its image is: frames, sizes and orientation are the image's.

    Attributes:
        on_grid_of_image: Whether its voxels are the image's; otherwise they are resampled.

    Args:
        path: The mask.
        image: Its image.
        name: What messages call the image.
        axis: How it is cut.
    """

    def __init__(self, path: Path, image: VolumeFile, name: Path, axis: SliceAxis) -> None:
        super().__init__(image.shape, image.affine, axis)
        self._path, self._mask = path, NiftiFile(path, axis)
        self.num_volumes = self._mask.num_volumes
        self.on_grid_of_image = _same_grid(self._mask, image)
        if not self.on_grid_of_image and (gap := _gap(self._mask, image)):
            raise UserError(
                f"{shown(path)}: does not cover its image {shown(name)}, which extends up to "
                f"{gap:.4g} mm beyond it: mask {_described(self._mask)}, image "
                f"{_described(image)}; correct the affine, or redraw the mask on its image's grid"
            )

    def values(self, *where: slice) -> NDArray[Any]:
        """The mask's values on the image's grid."""
        if self.on_grid_of_image:
            return self._mask.values(*where)
        stamp = self._path.stat().st_mtime_ns
        return _resampled(self._path, stamp, self.shape, self.affine.tobytes())[where]


class NiftiOnSlices(ImageFile):
    """The mask of a series whose slices are not on a grid: each pixel has the nearest value.

    Args:
        path: The mask.
        image: Its image, cut along its own slices.
        name: What messages call the image.
    """

    def __init__(self, path: Path, image: SeriesFile, name: Path) -> None:
        self._path, self._image, self._name = path, image, name
        self._mask = NiftiFile(path, "axial")
        self.num_frames, self.num_volumes = image.num_frames, self._mask.num_volumes

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width) of the slice."""
        return self._image.size(frame)

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Values of a slice, (H, W), turned as the slice is."""
        if self.num_volumes > 1:
            raise ValueError(f"the mask has {self.num_volumes} volumes; it must have one")
        plane = self._image.plane(frame)
        assert plane is not None
        to_voxels = np.linalg.inv(self._mask.affine)
        voxels = np.rint(places_of(plane) @ to_voxels[:3, :3].T + to_voxels[:3, 3])
        nearest = np.clip(voxels, 0, np.array(self._mask.shape) - 1)
        if np.abs(voxels - nearest).max() > 1:
            raise UserError(
                f"{shown(self._path)}: does not cover slice {frame} of its image "
                f"{shown(self._name)}: mask {_described(self._mask)}; correct the affine, or "
                "redraw the mask"
            )
        values, _ = _whole(self._path, self._path.stat().st_mtime_ns)
        return self._image.shown(values[tuple(np.moveaxis(nearest.astype(np.intp), 2, 0))])


@lru_cache(maxsize=1)
def _whole(path: Path, stamp: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The highest value of each voxel's channels, and the affine."""
    source = NiftiFile(path, "axial")
    values = source.values(*[slice(None)] * 3).reshape(*source.shape, -1)
    return np.nan_to_num(values.max(axis=3), posinf=0, neginf=0), source.affine


@lru_cache(maxsize=1)
def _resampled(path: Path, stamp: int, shape: tuple[int, int, int], affine: bytes) -> NDArray[Any]:
    """The whole mask, each voxel of the image's grid with the value of the nearest one."""
    volume = optional_package("nibabel.spatialimages").SpatialImage(*_whole(path, stamp))
    # At the rim, a voxel of the image may be outside the mask: "constant" would unmark it.
    resample = optional_package("nibabel.processing").resample_from_to
    grid = (shape, np.frombuffer(affine).reshape(4, 4))
    return np.asanyarray(resample(volume, grid, order=0, mode="nearest", out_class=None).dataobj)


def _moved(corners: NDArray[Any], source: VolumeFile, target: VolumeFile) -> NDArray[np.float64]:
    """Voxel coordinates of one grid in those of another, (N, 3)."""
    affine = np.linalg.inv(target.affine) @ source.affine
    return np.asarray(corners @ affine[:3, :3].T + affine[:3, 3])


def _corners(file: VolumeFile) -> NDArray[np.float64]:
    """The outer corners of a grid in its own voxels, (8, 3)."""
    return np.array(list(product(*((-0.5, length - 0.5) for length in file.shape))))


def _same_grid(mask: VolumeFile, image: VolumeFile) -> bool:
    if mask.shape != image.shape:
        return False
    corners = _corners(image)
    return bool(np.abs(_moved(corners, mask, image) - corners).max() < _TOLERANCE)


def _gap(mask: VolumeFile, image: VolumeFile) -> float:
    """How far the image extends beyond the mask, in mm; 0 if no whole voxel is outside."""
    there = _moved(_corners(image), image, mask)
    outside = there - np.clip(there, -0.5, np.array(mask.shape) - 0.5)
    distances = outside @ mask.affine[:3, :3].T  # (8, 3) in mm
    voxels = distances @ np.linalg.inv(image.affine[:3, :3]).T
    if np.abs(voxels).max() < 1 - _TOLERANCE:
        return 0.0
    return float(np.linalg.norm(distances, axis=1).max())


def _described(file: VolumeFile) -> str:
    """A grid in one line."""
    shape = " × ".join(str(length) for length in file.shape)
    rows = "; ".join(" ".join(f"{value:.6g}" for value in row) for row in file.affine[:3])
    return f"{shape} voxels with affine [{rows}]"
