"""Criteria against values that the published functions give, in fp32 and under autocast."""

import json

import pytest
import torch
from torch import Tensor, nn

from engine.build import build_autoencoder
from models.criteria import PatchEmbeddingDistance, PixelDistance, ResNetPerceptual
from models.distances import DISTANCES, feature_distance
from models.perceptual import PerceptualViT
from tests.conftest import GOLDEN

PUBLISHED = json.loads((GOLDEN / "criteria.json").read_text())
STAGES = [(2, 6, 32, 32), (2, 6, 16, 16), (2, 8, 8, 8), (2, 10, 4, 4), (2, 12, 2, 2)]


def wave(shape: tuple[int, ...], factor: float) -> Tensor:
    """The sine of factor times the running index, taken in float64 and rounded to float32."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(factor * index).float().reshape(shape)


def images() -> tuple[Tensor, Tensor]:
    shape = (2, 3, 176, 176)
    first = wave(shape, 0.0137)
    return first, 0.8 * first + 0.2 * wave(shape, 0.0311)


class Stages(nn.Module):
    """Stands in for the ResNet: the published features of the images, then of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.original = True

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [wave(shape, 0.11 * (i + 1)) for i, shape in enumerate(STAGES)]
        changes = [wave(shape, 0.07 * (i + 2)) for i, shape in enumerate(STAGES)]
        if self.original:
            self.original = False
            return features
        return [each + 0.3 * change for each, change in zip(features, changes, strict=True)]


@pytest.mark.parametrize("name", ["SSIM", "MS_SSIM"])
def test_structural_dissimilarity(name):
    maps = PixelDistance(name)(*images())
    assert maps.shape == (1, 2, 1, 176, 176)
    assert maps[0, :, 0, 7, 9].tolist() == pytest.approx(PUBLISHED[name.lower()], rel=1e-5)
    assert torch.equal(maps, maps[..., :1, :1].expand_as(maps))


@pytest.mark.parametrize(
    "case", PUBLISHED["resnet"], ids=lambda case: f"{case['metric']}-{case['hidden_states']}"
)
def test_stages_of_a_resnet(case):
    criterion = ResNetPerceptual(Stages(), case["hidden_states"], case["metric"])
    maps = criterion(*images())
    assert list(maps.shape) == case["shape"]
    found = {
        "mean": maps.mean(dim=(0, 2, 3, 4)),
        "corner": maps[0, :, 0, 0, 0],
        "max": maps.amax(dim=(0, 2, 3, 4)),
    }
    for name, values in found.items():
        assert values.tolist() == pytest.approx(case[name], rel=1e-5), name


def test_embeddings_of_patches():
    weights = torch.load(GOLDEN / "test_vit.pth", weights_only=True)
    network = PerceptualViT(
        "test_vit", img_size=32, patch_sizes=[16], deepest_block=-1, state_dict=weights
    )
    first, other = (each[..., :32, :32] for each in images())
    maps = PatchEmbeddingDistance(network, 16)(first, other)
    projection = network.views["16"].patch_embed.proj
    expected = (projection(first) - projection(other)).square().mean(dim=1)
    torch.testing.assert_close(maps, expected[None, :, None])


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distances_are_taken_in_fp32_under_autocast(metric, dtype):
    features, other = (each.to(dtype) for each in images())
    expected = feature_distance(features.float(), other.float(), metric)
    with torch.autocast("cpu", torch.bfloat16):
        found = feature_distance(features, other, metric)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_one_value_serves_two_encoders(tiny):
    two = ["MODEL_NAME=test_vit, test_vit", "ADDITIONAL_BLOCK_DIM=64"]
    two += ["ADDITIONAL_BLOCK_NUM_HEADS=2", "ADDITIONAL_BLOCK_MLP_RATIO=2"]
    settings = tiny(*two).testing
    encoders = build_autoencoder(settings).encoders
    assert [each.additional_block.mlp.fc1.out_features for each in encoders] == [128, 128]
    assert [each.final_projection.out_features for each in encoders] == [32, 32]


def test_a_decoder_without_registers_has_no_name_for_them(tiny, tmp_path):
    settings = tiny("DECODER_N_REG_TOKENS=0").testing
    weights = build_autoencoder(settings).trained_state_dict()
    assert "decoder.reg_tokens" not in weights
    for name, content in (
        ("published", weights),
        ("older", weights | {"decoder.reg_tokens": torch.empty(1, 0, 32)}),
    ):
        torch.save(content, tmp_path / f"{name}.pth")
        again = build_autoencoder(settings, tmp_path / f"{name}.pth").trained_state_dict()
        assert all(torch.equal(again[key], value) for key, value in weights.items())
