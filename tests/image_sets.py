"""Small image sets for the tests of CACHE_IMAGES."""

from pathlib import Path

import numpy as np
from PIL import Image

from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_normal_images
from tests.medical_files import write_dicom, write_nifti
from utils.intensity import IntensityWindow

AUTO = IntensityWindow()
_RANDOM = np.random.default_rng(7)
GREY = _RANDOM.integers(0, 256, (20, 14), np.uint8)
GREY_AS_RGB = np.stack([_RANDOM.integers(0, 256, (16, 16), np.uint8)] * 3, axis=2)
COLOUR = _RANDOM.integers(0, 256, (12, 18, 3), np.uint8)
DEEP = _RANDOM.integers(0, 5000, (9, 13), np.uint16)
VOLUME = _RANDOM.integers(-200, 900, (6, 5, 4)).astype(np.int16)


def write_grey(folder: Path) -> None:
    """Grey, grey stored as RGB, and 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in (("a", GREY), ("b", GREY_AS_RGB), ("c", DEEP)):
        Image.fromarray(pixels).save(folder / f"{name}.png")


def write_mixed(folder: Path) -> None:
    """Colour in the midst: what was begun with one channel must become three."""
    write_grey(folder)
    Image.fromarray(COLOUR).save(folder / "b2.png")


def write_medical(folder: Path) -> None:
    """A DICOM file with a window of its own, and a compressed volume."""
    write_dicom(folder / "a.dcm", DEEP, WindowCenter=800, WindowWidth=900)
    write_nifti(folder / "b.nii.gz", VOLUME)


def dataset_of(folder: Path, size: int = 8, window: IntensityWindow = AUTO) -> AnomalyDataset:
    """All images of a folder, in the order of their names."""
    return AnomalyDataset(find_normal_images(folder, key="TRAIN_DATA_PATH"), size, window)


def files_in(cache: Path) -> list[Path]:
    """What lies in a folder beside locks, at any depth."""
    return sorted(path for path in cache.rglob("*") if path.is_file() and path.name != ".lock")
