"""Images without labels, one by one; a file that cannot be read does not stop the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from datasets.folders.samples import Sample
from datasets.readers.formats import kind_of, shown
from datasets.readers.image import count_frames
from datasets.readers.picture import intensities_of
from datasets.transforms import resize_image
from utils.errors import UserError
from utils.intensity import IntensityWindow


@dataclass(frozen=True)
class Input:
    """One image to predict."""

    sample: Sample
    pixels: NDArray[np.uint8]  # (H, W) or (H, W, 3) uint8 at its own size
    image: Tensor  # (3, size, size) uint8, as the model sees it


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read."""

    sample: Sample
    error: str  # why, in one line


def read_input(sample: Sample, size: int, window: IntensityWindow) -> Input:
    """Read an image and resize it for the model.

    Raises:
        UserError: It cannot be read.
    """
    pixels = sample.read(window)
    return Input(sample, pixels, resize_image(pixels, size).expand(3, -1, -1))


def input_of(image: object, name: str, size: int, window: IntensityWindow) -> Input:
    """A path, or a picture in memory, for the model.

    Args:
        image: A path, a PIL image, or an array (H, W) or (H, W, 3) of numbers.
        name: What to call a picture in memory.
        size: Pixels along each side that the model sees.
        window: How intensities of more than 8 bits become 8.

    Raises:
        UserError: A file or picture cannot be read, or contains several images.
        TypeError: It is something else, or an array of something other than numbers.
        ValueError: An array has a different shape, or contains NaN or infinite values.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        if path.is_dir() or (kind_of(path) == "nifti" and count_frames(path) > 1):
            what = "folder" if path.is_dir() else "volume"
            raise UserError(f"{shown(path)}: is a {what}; score it with predictor.volume(path)")
        return read_input(Sample(path, None), size, window)
    if isinstance(image, Image.Image):
        if (count := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
            raise UserError(f"{name}: has {count} frames; pass one of them (seek, then copy())")
        try:
            image = intensities_of(ImageOps.exif_transpose(image))
        except (OSError, SyntaxError) as error:
            raise UserError(f"{name}: cannot be read ({error})") from error
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "buif":
        found = type(image).__name__
        if isinstance(image, np.ndarray):
            found = f"an array of {image.dtype}"
        raise TypeError(f"{name}: is {found}; pass a path, a PIL image or an array of numbers")
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ValueError(f"{name}: has shape {image.shape}; pass (H, W) or (H, W, 3)")
    try:
        pixels = window.apply(image)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Input(Sample(Path(name), None), pixels, resize_image(pixels, size).expand(3, -1, -1))


@dataclass(frozen=True)
class PredictionDataset(Dataset[Input | Unreadable]):
    """Samples as inputs."""

    samples: Sequence[Sample]  # what to read
    size: int  # pixels along each side that the model sees
    window: IntensityWindow  # how intensities of more than 8 bits become 8

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Input | Unreadable:
        sample = self.samples[index]
        try:
            return read_input(sample, self.size, self.window)
        except UserError as error:
            return Unreadable(sample, str(error))
