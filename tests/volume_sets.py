"""A small data set of volumes, in which a bright block is the anomaly."""

from pathlib import Path

import numpy as np

from tests.medical_files import write_nifti

SHAPE = (20, 28, 6)
# Spacing of 1 × 1 × 3 mm, stored from left to right, back to front and downwards.
AFFINE = np.diag([1.0, 1.0, -3.0, 1.0])


def write_volumes(folder: Path, *, normal: int = 3, anomalous: int = 3, seed: int = 0) -> Path:
    """Normal volumes, and anomalous ones with masks whose blocks fill one to four slices."""
    generator = np.random.default_rng(seed)
    for number in range(normal + anomalous):
        volume = generator.integers(0, 400, SHAPE).astype(np.int16)
        name = f"p{number // 2}_{number}.nii.gz"
        if number < normal:
            write_nifti(folder / "good" / name, volume, AFFINE)
            continue
        mask = np.zeros(SHAPE, np.uint8)
        mask[4:13, 6:19, 1 : 2 + number % 4] = 1
        volume[mask > 0] += 600
        write_nifti(folder / "Ungood" / "img" / name, volume, AFFINE)
        write_nifti(folder / "Ungood" / "label" / name, mask, AFFINE)
    return folder
