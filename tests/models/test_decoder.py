"""The decoder's layout: MAE's position embedding and patches."""

import numpy as np
import pytest
import torch

from models.decoder import PixelDecoder, sincos_position_embedding


def build(**changes) -> PixelDecoder:
    torch.manual_seed(0)
    settings = {
        "input_dim": 10, "dim": 16, "num_patches": 3, "patch_size": 2, "num_registers": 4,
        "depth": 1, "num_heads": 2, "mlp_ratio": 2, "out_channels": 3,
    }  # fmt: skip
    return PixelDecoder(**(settings | changes)).eval()


def test_position_embedding_equals_its_twin():
    dim, n = 16, 3
    expected = np.zeros((n * n, dim))
    for y in range(n):
        for x in range(n):
            for i in range(dim // 4):
                frequency = 10_000 ** (-i / (dim // 4))
                expected[y * n + x, i] = np.sin(x * frequency)
                expected[y * n + x, dim // 4 + i] = np.cos(x * frequency)
                expected[y * n + x, dim // 2 + i] = np.sin(y * frequency)
                expected[y * n + x, 3 * dim // 4 + i] = np.cos(y * frequency)
    embedding = sincos_position_embedding(dim, n)
    np.testing.assert_allclose(embedding[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_unpatchify_puts_channels_last_inside_a_patch(channels):
    decoder = build(out_channels=channels)
    patches = torch.arange(9 * 4 * channels, dtype=torch.float32).reshape(1, 9, -1)
    image = decoder._unpatchify(patches)
    assert image.shape == (1, 3, 6, 6)
    for y in range(6):
        for x in range(6):
            patch, inside = (y // 2) * 3 + x // 2, (y % 2) * 2 + x % 2
            for channel in range(3):
                position = inside * channels + (channel if channels == 3 else 0)
                assert image[0, channel, y, x] == patches[0, patch, position]


def test_only_the_position_embedding_is_fixed():
    frozen = [name for name, value in build().named_parameters() if not value.requires_grad]
    assert frozen == ["decoder_pos_embed"]


@torch.no_grad()
@pytest.mark.parametrize("registers", [0, 4])
def test_any_number_of_registers(registers):
    decoder = build(num_registers=registers)
    assert decoder(torch.randn(2, 9, 10)).shape == (2, 3, 6, 6)
    shapes = [tuple(value.shape) for name, value in decoder.named_parameters() if "reg_" in name]
    assert shapes == ([(1, registers, 16)] if registers else [])
