"""Criteria against obvious twins, their shapes, and their gradients."""

from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from engine.build import build_criteria
from models.criteria import WeightedCriteria
from models.distances import feature_distance
from utils.config.criteria import CriterionSpec
from utils.config.values import Metric

PIXEL_CRITERIA = ("MSE", "MAE", "COSSIM", "SSIM")
VIT_CRITERIA = ("PERCEPTUAL_VIT_mae_multi", "PERCEPTUAL_VIT_mae", "EMBED_MSE")


@pytest.fixture
def build(tiny):
    def build(names: str, metric: str = "cosine", resize: int = 32) -> WeightedCriteria:
        count = names.count(",") + 1
        settings = tiny(
            f"CRITERION_VAL={names}",
            f"CRITERION_VAL_WEIGHTS={', '.join(['1'] * count)}",
            f"PERCEPTUAL_METRIC_VAL={metric}",
            f"RESIZE={resize}",
            f"N_PATCHES={resize // 8}",
            f"DECODER_N_PATCHES={resize // 8}",
            f"JUNCTION_N_QUERIES={(resize // 8) ** 2}",
        ).testing
        return build_criteria(settings, [CriterionSpec.of(settings, "VAL")])[0]

    return build


def pair(size: int = 32, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, size, size, generator=generator)
    return images, images + 0.3 * torch.randn(images.shape, generator=generator)


@pytest.mark.parametrize("metric", get_args(Metric))
def test_distances_equal_their_twins(metric):
    features, other = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    result = feature_distance(features, other, metric)
    assert result.shape == (2, 3, 4)

    def style_of(b: int) -> torch.Tensor:
        grams = [torch.einsum("ihw,jhw->ij", each[b], each[b]) / 12 for each in (features, other)]
        return (grams[0] - grams[1]).square().mean()

    for b in range(2):
        for y in range(3):
            for x in range(4):
                u, v = features[b, :, y, x], other[b, :, y, x]
                expected = {
                    "cosine": 1 - u @ v / (u.norm() * v.norm()),
                    "L2": ((u - v) ** 2).mean(),
                    "L1": (u - v).abs().mean(),
                    "L1tot": (features[b] - other[b]).abs().mean(),
                    "content+style": ((features[b] - other[b]) ** 2).mean() + style_of(b),
                    "L2tot": ((features[b] - other[b]) ** 2).mean(),
                    "cosinetot": 1 - F.cosine_similarity(
                        features[b].flatten(), other[b].flatten(), dim=0
                    ),
                }[metric]  # fmt: skip
                torch.testing.assert_close(result[b, y, x], expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("PERCEPTUAL_VIT_mae_multi", (2, 2, 1, 32, 32)),
        ("PERCEPTUAL_VIT_mae", (2, 2, 1, 2, 2)),
        ("EMBED_MSE", (1, 2, 1, 2, 2)),
        ("PERCEPTUAL_RESNET18", (1, 2, 1, 8, 8)),
        *((name, (1, 2, 1, 32, 32)) for name in PIXEL_CRITERIA),
    ],
)
def test_shapes_and_zero_for_equal_images(build, name, shape):
    criterion = build(name)
    images, other = pair()
    maps = criterion(images, other)
    assert maps.shape == shape
    assert maps.mean() > 1e-4
    torch.testing.assert_close(criterion(images, images), torch.zeros(shape), atol=2e-6, rtol=0)


@torch.no_grad()
def test_multi_multiplies_upsampled_maps_of_the_patch_sizes(build):
    criterion = build("PERCEPTUAL_VIT_mae_multi").criteria[0]
    images, other = pair()
    small, large = (criterion.distances(images, [other], size)[0] for size in (8, 16))
    assert small.shape == (2, 2, 1, 4, 4)
    upsampled = [
        F.interpolate(maps[:, :, 0], size=(32, 32), mode="bilinear", align_corners=False)
        for maps in (small, large)
    ]
    torch.testing.assert_close(criterion(images, other)[:, :, 0], upsampled[0] * upsampled[1])


@torch.no_grad()
def test_criteria_are_weighted_and_stacked_at_the_largest_size(build):
    images, other = pair()
    combined = build("MSE, PERCEPTUAL_VIT_mae")
    combined.weights = (2.0, 0.5)
    single = [criterion(images, other) for criterion in combined.criteria]
    maps = combined(images, other)
    assert maps.shape == (3, 2, 1, 32, 32)
    torch.testing.assert_close(maps[0], 2 * single[0][0])
    expected = F.interpolate(0.5 * single[1][:, :, 0], size=(32, 32), mode="bilinear")
    torch.testing.assert_close(maps[1:, :, 0], expected)
    means = [2 * single[0].mean(dim=(2, 3, 4)), 0.5 * single[1].mean(dim=(2, 3, 4))]
    expected_loss = torch.cat([each.flatten() for each in means]).mean()
    torch.testing.assert_close(combined.loss(images, other), expected_loss)


@torch.no_grad()
@pytest.mark.parametrize("name", [*PIXEL_CRITERIA, *VIT_CRITERIA, "PERCEPTUAL_RESNET18"])
@pytest.mark.parametrize("value", [0.0, -1.986])
def test_constant_and_black_images_give_finite_maps(build, name, value):
    images = torch.full((2, 3, 32, 32), value)
    for other in (images, torch.zeros_like(images), images + 1):
        assert build(name)(images, other).isfinite().all()


@pytest.mark.parametrize("metric", get_args(Metric))
def test_zero_features_have_finite_distances_and_gradients(metric):
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    other = torch.zeros(1, 4, 2, 2)
    distance = feature_distance(other, features, metric)
    distance.sum().backward()
    assert distance.isfinite().all()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("metric", ["cosine", "L2", "cosinetot", "L2tot", "content+style"])
def test_gradients_of_distances_against_finite_differences(metric):
    torch.manual_seed(0)
    target = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    features = torch.randn_like(target, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: feature_distance(target, f, metric), features)


@pytest.mark.parametrize("name", [*PIXEL_CRITERIA, *VIT_CRITERIA, "PERCEPTUAL_RESNET18", "MS_SSIM"])
def test_gradient_of_each_criterion_against_finite_differences(build, name):
    size = 176 if name == "MS_SSIM" else 32
    criterion = build(name, resize=size).double()
    images, other = (value.double() for value in pair(size, count=1))
    direction = torch.randn(other.shape, generator=torch.Generator().manual_seed(1)).double()
    other.requires_grad_()
    criterion.loss(images, other).backward()
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (
            criterion.loss(images, other + sign * step * direction) for sign in (1, -1)
        )
    slope = (ahead - behind) / (2 * step)
    torch.testing.assert_close((other.grad * direction).sum(), slope, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "cosinetot"])
def test_rounding_makes_no_distance_negative(metric):
    torch.manual_seed(0)
    features = torch.randn(1, 48, 32, 32)
    close = features + 1e-5 * torch.randn_like(features)
    assert feature_distance(features, close, metric).min() >= 0
    assert feature_distance(features, features, metric).min() >= 0
