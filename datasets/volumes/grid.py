"""Where the voxels of a volume are in the patient, and how a stack becomes a straight grid.

Space is NIfTI's: RAS+ in mm, that is to the patient's right, to the front, upwards. DICOM's is
LPS+, the same with the first two axes reversed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from datasets.volumes.series import Plane, Series

# Tolerance for rounding in the cosine of the angle between axes.
_RECTANGULAR = 1e-3
# Slices further apart than this many distances have missing ones between them.
_NEAR = 1.5
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels in space."""

    shape: tuple[int, int, int]  # number of voxels along each axis
    affine: NDArray[np.float64]  # (4, 4), voxel numbers to mm

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def skew(self) -> float:
        """By how many degrees its axes are off a right angle, at most; 0 within rounding."""
        directions = self.affine[:3, :3] / self.spacing
        cosine = np.abs(directions.T @ directions - np.eye(3)).max()
        return float(np.degrees(np.arcsin(min(cosine, 1)))) if cosine > _RECTANGULAR else 0.0

    def rectangular(self) -> Grid:
        """The same with axes orthogonal to double precision, as viewers require."""
        left, _, right = np.linalg.svd(self.affine[:3, :3] / self.spacing)
        affine = self.affine.copy()
        affine[:3, :3] = left @ right * self.spacing
        return Grid(self.shape, affine)


def grid_of(series: Series) -> Grid:
    """The straight grid of a DICOM series, in dcm2niix's order: columns, rows upwards, slices.

    Its slices are evenly spaced along the normal, from the lowest position to the highest. If the
    stack leans, as with a tilted gantry, the grid is wide enough for all slices.
    """
    first = series.planes[0]
    low, high = _margins(series)
    rows, columns = np.array(first.size) + high - low
    slices = round((series.heights[-1] - series.heights[0]) / series.distance) + 1
    along_columns, along_rows = first.directions
    step = np.stack(
        [
            along_columns * first.spacing[1],
            -along_rows * first.spacing[0],
            first.normal * series.distance,
        ],
        axis=1,
    )
    corner = first.position + low[1] * step[:, 0] - (low[0] + rows - 1) * step[:, 1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = _LPS_TO_RAS @ step, _LPS_TO_RAS @ corner
    return Grid((int(columns), int(rows), slices), affine)


def places_of(plane: Plane) -> NDArray[np.float64]:
    """Positions of the pixels of a slice: (rows, columns, 3) mm in RAS+."""
    rows, columns = (np.arange(length)[:, None] for length in plane.size)
    down = rows * plane.spacing[0] * plane.directions[1]
    across = columns * plane.spacing[1] * plane.directions[0]
    return (plane.position + down[:, None] + across) @ _LPS_TO_RAS


def laid_on_grid(
    stack: NDArray[np.float32], series: Series, *, peaks: bool = False
) -> NDArray[np.float32]:
    """Values of the slices of a series, laid on :func:`grid_of`.

    Args:
        stack: (N, rows, columns), one per plane.
        series: Where they are.
        peaks: Whether every slice's values must survive: the plane nearest to each slice then has
            its values or higher ones.

    Returns:
        (columns, rows, slices). Between uneven slices, values are interpolated; where a slice is
        missing, and outside a leaning stack, they are 0.
    """
    if series.straight:
        return np.ascontiguousarray(stack[:, ::-1].transpose(2, 1, 0))
    return _straightened(stack, series, peaks)


def _margins(series: Series) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(rows, columns) by which a leaning stack extends beyond its first slice: before, behind."""
    if series.straight:
        return np.zeros(2, np.intp), np.zeros(2, np.intp)
    low = np.floor(series.shifts.min(axis=0)).astype(np.intp)
    return low, np.ceil(series.shifts.max(axis=0)).astype(np.intp)


def _straightened(stack: NDArray[np.float32], series: Series, peaks: bool) -> NDArray[np.float32]:
    # Imported here: few series lean, and every predictor would wait for it.
    from scipy import ndimage

    grid, (low, high) = grid_of(series), _margins(series)
    around = [(0, int(each)) for each in high - low]
    heights, distance = series.heights, series.distance
    nearest = np.rint((heights - heights[0]) / distance) if peaks else np.empty(0)
    result = np.zeros(grid.shape, np.float32)

    @lru_cache(maxsize=2)  # a plane needs two slices and shares one with the next
    def moved(index: int) -> NDArray[np.float32]:
        shift = series.shifts[index] - low
        return np.asarray(ndimage.shift(np.pad(stack[index], around), shift, order=1))[::-1].T

    for number in range(grid.shape[2]):
        height = heights[0] + number * distance
        above = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
        gap = heights[above] - heights[above - 1]
        share = (height - heights[above - 1]) / gap
        if gap > _NEAR * distance:
            # Nothing is known in between: use the slice at this position, or none.
            share = round(share) if min(share, 1 - share) * gap < distance / 2 else np.nan
        for index, weight in ((above - 1, 1 - share), (above, share)):
            if weight > 0:
                result[..., number] += np.float32(min(weight, 1)) * moved(index)
        for index in np.flatnonzero(nearest == number).tolist():
            np.maximum(result[..., number], moved(index), out=result[..., number])
    return result
