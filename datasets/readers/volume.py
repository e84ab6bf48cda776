"""Volumes as radiologists look at them: slices along an anatomical axis.

Voxels are taken in the closest canonical orientation (RAS: to the patient's right, to the front,
upwards). Front or head is up; the patient's right is on the left of axial and coronal slices, the
front on the left of sagittal ones.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import ImageFile, SliceAxis, optional_package

# Position of the slicing axis in RAS.
_AXES: dict[SliceAxis, int] = {"sagittal": 0, "coronal": 1, "axial": 2}

# About how many voxels of a volume its percentiles are computed from.
_SAMPLED_VOXELS = 2**20

Voxel = TypeVar("Voxel", bound=np.generic)


def sampled(shape: Sequence[int]) -> tuple[slice, ...]:
    """Every n-th voxel along each of three axes, at most about a million in all.

    They are the same ones however the volume is stored: turned, mirrored or as slices.
    """
    step = math.ceil((math.prod(shape) / _SAMPLED_VOXELS) ** (1 / 3))
    # An odd step can leave the same number of voxels on both sides.
    return tuple(_centred(length, step if step % 2 else step + 1) for length in shape)


def _centred(length: int, step: int) -> slice:
    rest = (length - 1) % step
    if rest % 2 and length > step:
        rest += step
    return slice(rest // 2, length - rest // 2, step)


class VolumeFile(ImageFile):
    """A volume, cut along one axis; frame 0 is its leftmost, rearmost or lowest slice.

    A volume of one plane is shown as it is, whatever the axis.

    Args:
        shape: Number of voxels along each axis.
        affine: (4, 4), voxel numbers to mm in RAS+.
        axis: How it is cut.

    Raises:
        ValueError: The affine does not define an orientation.
    """

    def __init__(
        self, shape: tuple[int, int, int], affine: NDArray[np.float64], axis: SliceAxis
    ) -> None:
        self.shape, self.affine = shape, affine
        # (3, 2): the axis of RAS that each voxel axis follows, and 1 or -1 for its direction.
        self._turns = optional_package("nibabel.orientations").io_orientation(affine)
        if not np.isfinite(self._turns).all():
            raise ValueError("its affine does not define an orientation")
        self._ras = [int(turn) for turn in self._turns[:, 0]]
        flat = [each for each in (2, 1, 0) if shape[each] == 1]
        self.cut = flat[0] if flat else self._ras.index(_AXES[axis])
        self.num_frames = shape[self.cut]

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width), which all slices share."""
        width, height = self._across
        return self.shape[height], self.shape[width]

    @property
    def extent(self) -> tuple[float, float]:
        """(height, width) of a slice in mm."""
        width, height = self._across
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0) * self.shape
        return float(lengths[height]), float(lengths[width])

    @property
    def _across(self) -> tuple[int, int]:
        """The voxel axes along the width and along the height of a slice."""
        axes = [self._ras.index(each) for each in range(3) if each != self._ras[self.cut]]
        return axes[0], axes[1]

    def values(self, *where: slice) -> NDArray[Any]:
        """(X, Y, Z) or (X, Y, Z, 3) values of a part of the volume."""
        raise NotImplementedError

    def read_mask(self, frame: int) -> NDArray[Any]:
        """A slice's values, (H, W) or (H, W, 3)."""
        if self.num_volumes > 1:
            raise ValueError(f"the mask has {self.num_volumes} volumes; it must have one")
        return np.nan_to_num(self._plane(frame), posinf=0, neginf=0)

    def plane_of(self, array: NDArray[Voxel], frame: int) -> NDArray[Voxel]:
        """A slice of an array on the volume's voxels, as it is looked at.

        Args:
            array: (X, Y, Z) or (X, Y, Z, C).
            frame: Which slice.

        Returns:
            (H, W) or (H, W, C), a view: what is written to it is written to ``array``.
        """
        return self._shown(array[self._where(frame)])

    def position(self, frame: int) -> int:
        """The position of a slice along the voxel axis that is cut."""
        return self.num_frames - 1 - frame if self._turns[self.cut, 1] < 0 else frame

    def _plane(self, frame: int) -> NDArray[Any]:
        return self._shown(self.values(*self._where(frame)))

    def _where(self, frame: int) -> tuple[slice, ...]:
        where = [slice(None)] * 3
        position = self.position(frame)
        where[self.cut] = slice(position, position + 1)
        return tuple(where)

    def _shown(self, slab: NDArray[Any]) -> NDArray[Any]:
        """(X, Y, Z, …) of one plane as it is looked at, (H, W, …), a view."""
        turned = optional_package("nibabel.orientations").apply_orientation(slab, self._turns)
        plane = np.squeeze(turned, self._ras[self.cut])
        # (right or front, front or up) → rows downwards, columns to the patient's left or back.
        return plane[::-1, ::-1].swapaxes(0, 1)
