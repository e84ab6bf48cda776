"""Where voxels lie: straight grids of DICOM series, also of stacks that are none."""

import numpy as np
import pytest

from datasets.volumes.grid import Grid, grid_of, laid_on_grid
from datasets.volumes.series import group_series
from tests.series_files import write_series

SHAPE = (9, 20, 16)  # slices, rows, columns


def block(heights, lean=(0.0, 0.0), spacing=(1.5, 1.25)):
    """A stack with a bright block: x -6 to 0, y -12 to -4, z 4 to 10 mm (LPS)."""
    stack = np.zeros((len(heights), *SHAPE[1:]), np.uint16)
    for index, z in enumerate(heights):
        y = -20 + lean[1] * z + np.arange(SHAPE[1]) * spacing[0]
        x = -10 + lean[0] * z + np.arange(SHAPE[2]) * spacing[1]
        inside = ((y >= -12) & (y <= -4))[:, None] & ((x >= -6) & (x <= 0))[None]
        stack[index] = 1000 * inside * (4 <= z <= 10)
    return stack


def centre_of_mass(values, grid):
    where = np.argwhere(values > 0)
    weights = values[tuple(where.T)]
    voxel = (where * weights[:, None]).sum(0) / weights.sum()
    return grid.affine[:3, :3] @ voxel + grid.affine[:3, 3]


@pytest.mark.parametrize(
    ("heights", "lean"),
    [
        (range(0, 18, 2), (0, 0)),
        ([0, 2, 4, 6, 8, 10, 12, 16, 18], (0, 0)),
        ([0, 2, 4, 5.2, 6.4, 8.4, 10, 12, 14], (0, 0)),
        (range(0, 18, 2), (0.1, 0.4)),
        (range(0, 18, 2), (0, -0.4)),
    ],
    ids=["straight", "missing", "uneven", "tilted", "tilted back"],
)
def test_a_block_is_found_at_its_place_in_millimetres(tmp_path, heights, lean):
    stack = block(list(heights), lean)
    (series,) = group_series(write_series(tmp_path, stack, heights=list(heights), lean=lean)).series
    values, grid = laid_on_grid(stack.astype(np.float32), series), grid_of(series)
    assert values.shape == grid.shape
    assert grid.skew == 0
    # RAS: the block's middle, turned round in x and y.
    assert centre_of_mass(values, grid) == pytest.approx([3, 8, 7], abs=0.8)


def test_nothing_is_made_up_where_a_slice_is_missing(tmp_path):
    stack = np.full((4, 8, 6), 5, np.uint16)
    (series,) = group_series(write_series(tmp_path, stack, heights=[0, 2, 4, 8])).series
    values = laid_on_grid(stack.astype(np.float32), series)
    assert values.max(axis=(0, 1)).tolist() == [5, 5, 5, 0, 5]


@pytest.mark.parametrize("heights", [[0, 2, 4, 9, 14], [0, 2, 4, 11, 18], [0, 2, 4, 4.5, 5]])
def test_no_slice_of_an_uneven_stack_is_lost(tmp_path, heights):
    stack = np.arange(1, 6, dtype=np.uint16)[:, None, None] * np.ones((1, 8, 6), np.uint16)
    (series,) = group_series(write_series(tmp_path, stack, heights=heights)).series
    values = laid_on_grid(stack.astype(np.float32), series, peaks=True)
    for height, value in zip(heights, range(1, 6), strict=True):
        assert values[..., round(height / series.distance)].max() >= value


def test_a_straight_series_is_only_turned(tmp_path):
    stack = np.random.default_rng(0).integers(0, 1000, (4, 8, 6), dtype=np.uint16)
    (series,) = group_series(write_series(tmp_path, stack)).series
    values = laid_on_grid(stack.astype(np.float32), series)
    assert np.array_equal(values[2, 7 - 3, 1], stack[1, 3, 2])
    assert np.array_equal(np.sort(values, axis=None), np.sort(stack, axis=None))


def test_skew_is_measured_and_rounding_is_cured():
    rounded = np.diag([2.0, 3.0, 4.0, 1.0])
    rounded[0, 1] = 1e-4
    straight = Grid((2, 2, 2), rounded)
    assert straight.skew == 0
    axes = straight.rectangular().affine[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    assert np.abs(axes.T @ axes - np.eye(3)).max() < 1e-12
    assert np.abs(straight.rectangular().affine - rounded).max() < 1e-4
    sheared = np.diag([1.0, 1.0, 1.0, 1.0])
    sheared[0, 2] = np.tan(np.radians(10))
    assert Grid((2, 2, 2), sheared).skew == pytest.approx(10, abs=0.1)
