"""Arrays to the tensors that the model sees; sizes and orders as in the published code."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

# Mean and deviation for normalising all images, on intensities in [0, 1].
PIXEL_MEAN = 0.449
PIXEL_STD = 0.226


def resize_image(pixels: NDArray[np.uint8], size: int) -> Tensor:
    """(H, W) or (H, W, 3), 8 bits → (1 or 3, size, size) uint8, bilinear with antialiasing."""
    tensor = torch.from_numpy(np.array(pixels))
    image = tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    return F.resize(image, [size, size], antialias=True)


def resize_mask(mask: NDArray[np.bool_], size: int) -> Tensor:
    """(H, W) → (size, size) bool, nearest neighbour."""
    image = torch.from_numpy(np.array(mask)).to(torch.uint8).unsqueeze(0)
    return F.resize(image, [size, size], interpolation=InterpolationMode.NEAREST)[0].bool()


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 → float32 with the mean and deviation of all data sets.

    Made for the device: images travel as bytes.
    """
    return (F.to_dtype(images, torch.float32, scale=True) - PIXEL_MEAN) / PIXEL_STD


def to_bytes(images: Tensor) -> Tensor:
    """(B, 3, H, W) normalised → uint8 on the CPU; out-of-range values are clipped."""
    intensities = (images.float() * PIXEL_STD + PIXEL_MEAN).clamp(0, 1)
    return (intensities * 255).round().byte().cpu()


def augment(image: Tensor, size: int, seed: int) -> Tensor:
    """The random transforms of training, all drawn from one seed.

    Args:
        image: (1 or 3, H, W) uint8.
        size: Pixels along each side of the result, (3, size, size) uint8.
        seed: Decides the draws; the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed GPUs as well.
        torch.default_generator.manual_seed(seed)
        return _augmentation(size)(image)


@cache
def _augmentation(size: int) -> v2.Compose:
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.9, 1.0), ratio=(0.8, 1.2), antialias=True),
            v2.RandomRotation(10),
            v2.RandomVerticalFlip(),
            # Contrast is defined on three channels.
            v2.RGB(),
            v2.ColorJitter(brightness=0.1, contrast=0.1),
        ]
    )
