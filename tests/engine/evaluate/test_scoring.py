"""Reductions of maps to scores against written-out twins."""

import numpy as np
import pytest
import torch

from engine.evaluate.reductions import image_scores, pixel_scores

MAPS = torch.rand(3, 2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
REDUCERS = {"mean": np.mean, "max": np.max}


@pytest.mark.parametrize("reduction", ["mean", "max"])
@pytest.mark.parametrize("over_states", ["mean", "max"])
def test_plain_reductions(reduction, over_states):
    expected = [
        REDUCERS[over_states]([REDUCERS[reduction](MAPS[r, b].numpy()) for r in range(3)])
        for b in range(2)
    ]
    np.testing.assert_allclose(image_scores(MAPS, reduction, over_states), expected, rtol=1e-6)


def test_pixelwise_reductions():
    maps = MAPS[:, :, 0].numpy()
    mean_max = maps.mean(axis=0).max(axis=(1, 2))
    max_mean = maps.max(axis=0).mean(axis=(1, 2))
    for name, expected in (("pixelwise_mean_max", mean_max), ("pixelwise_max_mean", max_mean)):
        for over_states in ("mean", "max"):
            found = image_scores(MAPS, name, over_states)
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_downsampling_averages_windows_of_eight():
    pixels = pixel_scores(MAPS, "downsample_8x8", "mean")
    assert pixels.shape == (2, 16, 24)
    coarse = MAPS[:, :, 0].numpy().reshape(3, 2, 2, 8, 3, 8).mean(axis=(3, 5)).max(axis=0)
    # Beyond the centres of the outer windows, bilinear interpolation is constant.
    np.testing.assert_allclose(pixels[:, 0, 0], coarse[:, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(pixels[:, -1, -1], coarse[:, -1, -1], rtol=1e-6)
    scores = image_scores(MAPS, "downsample_8x8", "mean")
    np.testing.assert_allclose(scores, pixels.mean(dim=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("reduction", "over_states", "expected"),
    [
        ("mean", "mean", "mean"),
        ("max", "mean", "mean"),
        ("mean", "max", "max"),
        ("pixelwise_mean_max", "max", "mean"),
        ("pixelwise_max_mean", "mean", "max"),
    ],
)
def test_pixels_are_reduced_over_states_only(reduction, over_states, expected):
    result = pixel_scores(MAPS, reduction, over_states)
    np.testing.assert_allclose(result, REDUCERS[expected](MAPS[:, :, 0].numpy(), axis=0), rtol=1e-6)
