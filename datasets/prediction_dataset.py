"""Images without labels, one by one; a file that cannot be read does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.dataset import create_loader
from datasets.folders.samples import Sample
from datasets.transforms import resize_image
from utils.errors import UserError
from utils.intensity import IntensityWindow


@dataclass(frozen=True)
class Input:
    """One image to predict.

    Attributes:
        sample: Where it comes from.
        pixels: (H, W) or (H, W, 3) uint8 at its own size.
        image: (3, size, size) uint8, as the model sees it.
    """

    sample: Sample
    pixels: NDArray[np.uint8]
    image: Tensor


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read.

    Attributes:
        sample: Where it is.
        error: Why, in one line.
    """

    sample: Sample
    error: str


def read_input(sample: Sample, size: int, window: IntensityWindow) -> Input:
    """Read an image and resize it for the model.

    Raises:
        UserError: It cannot be read.
    """
    pixels = sample.read(window)
    return Input(sample, pixels, resize_image(pixels, size).expand(3, -1, -1))


@dataclass(frozen=True)
class PredictionDataset(Dataset[Input | Unreadable]):
    """Samples as inputs.

    Attributes:
        samples: What to read.
        size: Pixels along each side that the model sees.
        window: How intensities of more than 8 bits become 8.
    """

    samples: Sequence[Sample]
    size: int
    window: IntensityWindow

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Input | Unreadable:
        sample = self.samples[index]
        try:
            return read_input(sample, self.size, self.window)
        except UserError as error:
            return Unreadable(sample, str(error))


def prediction_loader(
    dataset: PredictionDataset, *, batch_size: int, num_workers: int
) -> DataLoader[Input | Unreadable]:
    """Lists of inputs in order; nothing is dropped."""
    return create_loader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=list,
    )
