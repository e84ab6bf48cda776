"""The augmentation against torchvision's own transforms, and what its draws depend on."""

import pytest
import torch
from torchvision.transforms import v2

from datasets.transforms import augment


def published(image: torch.Tensor, seed: int, size: int) -> torch.Tensor:
    torch.manual_seed(seed)
    geometry = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.9, 1.0), ratio=(0.8, 1.2), antialias=True),
            v2.RandomRotation(10),
            v2.RandomVerticalFlip(),
        ]
    )
    return v2.ColorJitter(brightness=0.1, contrast=0.1)(geometry(image).expand(3, -1, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_draws_are_those_of_torchvision(channels):
    image = torch.randint(256, (channels, 48, 48), dtype=torch.uint8)
    for seed in range(100):
        assert torch.equal(augment(image, 48, seed), published(image, seed, 48)), seed


def test_the_global_generator_is_left_alone():
    image = torch.zeros(1, 16, 16, dtype=torch.uint8)
    before = torch.get_rng_state()
    augment(image, 16, 3)
    assert torch.equal(torch.get_rng_state(), before)
