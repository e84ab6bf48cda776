"""Frozen backbones and encoders: what is run, what is trained, what stays as it is."""

import gc
import weakref

import pytest
import torch

from models.backbone import block_outputs, create_backbone
from models.encoder import Encoder
from models.perceptual import PerceptualViT
from utils.weights import native_state_dict


@pytest.fixture(scope="module")
def weights():
    return native_state_dict("test_vit", "random", key="MODEL_WEIGHTS", cache_dir="", seed=0)


def backbone(weights, patch_size=8):
    return create_backbone("test_vit", img_size=32, patch_size=patch_size, state_dict=weights)


def encoder_of(weights, blocks, **parts):
    sizes = {"img_size": 32, "patch_size": 8, "block_indices": blocks}
    return Encoder("test_vit", state_dict=weights, **sizes, **parts)


def test_given_weights_are_not_held_beside_the_model(weights):
    own = {name: weight.clone() for name, weight in weights.items()}
    watched = [weakref.ref(weight) for weight in own.values()]
    model = backbone(own)
    del own
    gc.collect()
    assert model.blocks
    assert watched
    assert all(weight() is None for weight in watched)


def count_runs(blocks):
    runs = []
    for index, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, index=index: runs.append(index))
    return runs


@torch.no_grad()
def test_outputs_come_in_the_order_asked_with_prefix_in_front(weights):
    model, images = backbone(weights), torch.randn(2, 3, 32, 32)
    tokens = model._pos_embed(model.patch_embed(images))
    expected = []
    for block in model.blocks:
        tokens = block(tokens)
        expected.append(tokens)
    asked = [4, 1, 4]
    outputs = block_outputs(model, images, asked, prefix_tokens=True)
    for index, output in zip(asked, outputs, strict=True):
        assert torch.equal(output, expected[index])
    bare = block_outputs(model, images, [2], prefix_tokens=False)[0]
    assert torch.equal(bare, expected[2][:, 1:])


@torch.no_grad()
def test_no_block_behind_the_deepest_is_run(weights):
    model = backbone(weights)
    runs = count_runs(model.blocks)
    block_outputs(model, torch.randn(1, 3, 32, 32), [3, 1], prefix_tokens=True)
    assert runs == [0, 1, 2, 3]


def test_unused_blocks_can_be_dropped(weights):
    encoder = encoder_of(weights, [3, 1])
    images = torch.randn(1, 3, 32, 32)
    before, held = encoder.project(encoder(images)), len(encoder.model.blocks)
    encoder.drop_unused_blocks()
    assert (held, len(encoder.model.blocks)) == (6, 4)
    assert torch.equal(encoder.project(encoder(images)), before)


def test_encoder_freezes_the_backbone_and_trains_the_rest(weights):
    encoder = encoder_of(weights, [4, 2], additional_block=(64, 2, 2.0), projection=(64, 10))
    encoder.train()
    assert not any(module.training for module in encoder.model.modules())
    assert encoder.additional_block.training
    tokens = encoder.project(encoder(torch.randn(2, 3, 32, 32)))
    assert tokens.shape == (2, 2 * 17, 10)
    tokens.sum().backward()
    with_gradient = {n.split(".")[0] for n, p in encoder.named_parameters() if p.grad is not None}
    assert with_gradient == {"additional_block", "final_projection"}
    assert "additional_block.attn.qkv.bias" not in encoder.state_dict()


def perceptual(weights, patch_sizes, deepest):
    sizes = {"img_size": 32, "patch_sizes": patch_sizes, "deepest_block": deepest}
    return PerceptualViT("test_vit", state_dict=weights, **sizes)


def test_perceptual_views_share_one_trunk(weights):
    network = perceptual(weights, [8, 16], 2)
    first, second = network.views["8"], network.views["16"]
    assert first.blocks is second.blocks
    assert len(first.blocks) == 3
    assert first.patch_embed.proj.weight.shape[-1] == 8
    assert second.patch_embed.proj.weight.shape[-1] == 16
    trunk = sum(p.numel() for p in first.blocks.parameters())
    whole = sum(p.numel() for p in network.parameters())
    views = sum(
        p.numel()
        for view in (first, second)
        for name, p in view.named_parameters()
        if not name.startswith("blocks.")
    )
    assert whole == trunk + views
    network.train()
    assert not any(module.training for module in network.modules())


@torch.no_grad()
def test_perceptual_views_equal_backbones_of_their_own(weights):
    network = perceptual(weights, [16, 8], 3)
    images = torch.randn(2, 3, 32, 32)
    for size in (8, 16):
        alone = block_outputs(backbone(weights, size), images, [1, 3], prefix_tokens=False)
        for tokens, features in zip(alone, network(images, size, [1, 3]), strict=True):
            assert features.shape == (2, 64, 32 // size, 32 // size)
            assert torch.equal(features.flatten(2).mT, tokens)
