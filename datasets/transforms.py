"""Arrays to the tensors that the model sees; sizes and orders as in the published code."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

# Mean and deviation for normalising all images, on intensities in [0, 1].
PIXEL_MEAN = 0.449
PIXEL_STD = 0.226

_LOG_RATIO = torch.log(torch.tensor([0.8, 1.2])).tolist()


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

    Draws what torchvision's RandomResizedCrop, RandomRotation, RandomVerticalFlip and ColorJitter
    draw, in their order, from its own generator; their classes take 1.5 times as long.

    Args:
        image: (1 or 3, H, W) uint8.
        size: Pixels along each side of the result, (3, size, size) uint8.
        seed: Decides the draws.
    """
    draw = torch.Generator().manual_seed(seed)
    box = _crop_box(image.shape[-2], image.shape[-1], draw)
    image = F.resized_crop(image, *box, size=[size, size], antialias=True)
    image = F.rotate(image, _uniform(-10, 10, draw))
    if torch.rand(1, generator=draw) < 0.5:
        image = F.vertical_flip(image)
    # Grey images become RGB only here: contrast is defined on three channels.
    image = image.expand(3, -1, -1)
    # Of ColorJitter's four changes, hue and saturation are not used.
    order = torch.randperm(4, generator=draw).tolist()
    brightness, contrast = (_uniform(0.9, 1.1, draw) for _ in range(2))
    for change in order:
        if change == 0:
            image = F.adjust_brightness(image, brightness)
        elif change == 1:
            image = F.adjust_contrast(image, contrast)
    return image


def _crop_box(height: int, width: int, draw: torch.Generator) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a box of 0.9 to 1 of the area and of ratio 0.8 to 1.2."""
    for _ in range(10):
        area = height * width * _uniform(0.9, 1.0, draw)
        ratio = torch.exp(torch.empty(1).uniform_(*_LOG_RATIO, generator=draw)).item()
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(torch.randint(0, height - box_height + 1, (1,), generator=draw))
            left = int(torch.randint(0, width - box_width + 1, (1,), generator=draw))
            return top, left, box_height, box_width
    # No box of such a ratio fits: images are square here, so the whole image has one.
    return 0, 0, height, width


def _uniform(low: float, high: float, draw: torch.Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=draw).item()
