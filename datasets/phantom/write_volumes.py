"""Whole heads as NIfTI files and DICOM series: a seeded data set of volumes, drawn once.

Run as ``python -m datasets.phantom.write_volumes --output data/phantom_volumes``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.phantom.volume import FIELD_OF_VIEW, STACK_HEIGHT, add_ball, draw_head
from datasets.phantom.write import fill_folder, run_command
from datasets.phantom.write_series import write_series
from datasets.volumes.grid import Grid
from datasets.volumes.map_files import write_nifti
from utils.errors import run_script

# Every third volume of a test is a DICOM series.
_SERIES = 3


def write_volume_dataset(
    folder: Path,
    *,
    size: int = 64,
    slices: int = 30,
    train: int = 48,
    valid_good: int = 6,
    valid_ungood: int = 6,
    test_good: int = 9,
    test_ungood: int = 9,
    seed: int = 0,
) -> bool:
    """Write heads in BMAD's layout, as :func:`datasets.phantom.write.write_phantom_dataset`.

    All are NIfTI files, except some of the test, which are DICOM series in separate folders.
    Masks are NIfTI files.

    Returns, Raises:
        As :func:`datasets.phantom.write.write_phantom_dataset`.
    """
    counts = (train, valid_good, valid_ungood, test_good, test_ungood)
    return fill_folder(folder, _write_part, counts, seed, size=size, slices=slices)


def _write_part(folder: Path, count: int, seed: tuple[int, int], size: int, slices: int) -> None:
    spacing, distance = FIELD_OF_VIEW / size, STACK_HEIGHT / slices
    (folder / "img").mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        head = draw_head(rng, size, slices)
        stack, name = head.image, f"{folder.parent.name}_{folder.name.lower()}_{index:02d}"
        if folder.name == "Ungood":
            stack, mask = add_ball(rng, head, bright=index % 2 == 0)
            _write_nifti(folder / "label" / f"{name}.nii.gz", mask, spacing, distance)
        if folder.parent.name == "test" and index % _SERIES == _SERIES - 1:
            path = folder / "img" / name
            write_series(path, stack, spacing=spacing, distance=distance)
        else:
            path = folder / "img" / f"{name}.nii.gz"
            _write_nifti(path, stack.astype(np.int16), spacing, distance)


def _write_nifti(path: Path, stack: NDArray[np.generic], spacing: float, distance: float) -> None:
    """Where :func:`write_series` lays the stack; columns run to the left, rows to the back."""
    values = stack.transpose(2, 1, 0)
    affine = np.diag([-spacing, -spacing, distance, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(values.shape) - 1) / 2
    write_nifti(path, values, Grid(values.shape, affine))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, with ``arguments`` instead of those of the process."""
    run_command(
        write_volume_dataset,
        arguments,
        prog="python -m datasets.phantom.write_volumes",
        output="data/phantom_volumes",
        description="Draw whole heads with and without a lesion, in BMAD's layout. Options set the "
        "size of a slice in pixels, the slices per volume, the number of volumes in each folder, "
        "and the seed.",
    )


if __name__ == "__main__":
    run_script(main)
