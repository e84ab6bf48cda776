"""models.onednn: oneDNN's kernels give the numbers of PyTorch's own."""

import copy

import pytest
import timm
import torch
from timm.layers import Attention, Mlp, PatchEmbed, SwiGLU
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.steps import NOT_COUNTED_BY_TORCH
from models import onednn
from models.onednn import (
    OneDnnAttention,
    OneDnnLinear,
    OneDnnMlp,
    OneDnnPatchProjection,
    use_onednn,
)

BACKBONES = ["test_vit", "vit_tiny_patch16_224", "beit_base_patch16_224",
             "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"]  # fmt: skip


@pytest.fixture(autouse=True)
def on_any_processor(monkeypatch):
    monkeypatch.setattr(onednn, "_FASTER", True)


def test_this_release_of_pytorch_has_the_kernel():
    """It is private: without it all products go through MKL again, slower and without a word."""
    assert torch.backends.mkldnn.is_available()
    schema = torch.ops.mkldnn._linear_pointwise.default._schema
    assert str(schema) == (
        "mkldnn::_linear_pointwise(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, "
        "str? algorithm) -> Tensor Y"
    ), "models/onednn.py calls a kernel of PyTorch that has changed; adapt _onednn to it"


@pytest.fixture
def pair():
    """A module and its twin on oneDNN, with the same weights."""
    torch.manual_seed(4)
    plain = nn.Sequential(nn.Linear(24, 16), Mlp(16, 40), nn.Linear(16, 5, bias=False)).eval()
    twin = copy.deepcopy(plain)
    use_onednn(twin)
    kinds = [type(module) for module in twin]
    assert kinds == [OneDnnLinear, OneDnnMlp, OneDnnLinear]
    return plain, twin


def check_equal_values_and_gradients(modules, inputs):
    found = []
    for module in modules:
        own = inputs.clone().requires_grad_()
        outputs = module(own)
        outputs.square().sum().backward()
        found.append([outputs, own.grad, *(each.grad for each in module.parameters())])
    for expected, value in zip(*found, strict=True):
        assert (expected is None) == (value is None)
        if expected is not None:
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("shape", [(7, 24), (3, 7, 24), (2, 3, 7, 24)])
def test_values_and_gradients_are_equal(pair, shape, frozen):
    for module in pair:
        module.requires_grad_(not frozen)
    check_equal_values_and_gradients(pair, torch.randn(shape))


def test_a_block_holds_no_gelu_until_the_backward_pass(pair):
    held = []
    for module in pair:
        found = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, found=found: found.setdefault(tensor.data_ptr(), tensor),
            lambda tensor: tensor,
        ):
            module[1](torch.randn(3, 5, 16, requires_grad=True))
        held.append(sum(tensor.numel() == 3 * 5 * 40 for tensor in found.values()))
    assert held == [2, 1]


def test_dropout_is_left_to_timm():
    torch.manual_seed(4)
    plain = Mlp(16, 40, drop=0.5)
    twin = copy.deepcopy(plain)
    use_onednn(twin)
    inputs, found = torch.randn(3, 16), []
    for module in (plain, twin):
        torch.manual_seed(1)
        found.append(module(inputs))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_views_that_are_not_contiguous(pair):
    plain, twin = pair
    inputs = torch.randn(3, 24, 9)
    for view in (inputs.mT, inputs.mT[:, 2:], inputs.mT[:1].expand(4, -1, -1), inputs.mT[:0]):
        torch.testing.assert_close(twin(view), plain(view), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_other_types_are_left_to_pytorch(pair):
    plain, twin = pair
    inputs = torch.randn(3, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(twin(inputs), plain(inputs))
    plain, twin, inputs = plain.double(), twin.double(), inputs.double()
    assert torch.equal(twin(inputs), plain(inputs))


def test_names_of_weights_stay_and_other_mlps_are_left_alone(pair):
    plain, twin = pair
    assert list(plain.state_dict()) == list(twin.state_dict())
    gated = SwiGLU(8, 16)
    use_onednn(gated)
    assert type(gated) is SwiGLU
    squashed = Mlp(8, 16, act_layer=nn.ReLU)
    use_onednn(squashed)
    assert type(squashed) is Mlp


def test_its_operations_are_counted(pair):
    counts = []
    for module in pair:
        with FlopCounterMode(display=False, custom_mapping=NOT_COUNTED_BY_TORCH) as counter:
            module(torch.randn(2, 5, 24, requires_grad=True)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_give_the_same_numbers(name):
    """Some of timm's attention takes the weight out of the layer."""
    torch.manual_seed(6)
    sizes = {"img_size": 32, "depth": 1, "embed_dim": 64, "num_heads": 2, "num_classes": 0}
    model = timm.create_model(name, **sizes).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = model.forward_features(images)
    use_onednn(model)
    torch.testing.assert_close(model.forward_features(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_patches_are_projected_as_by_the_convolution(frozen, bias):
    torch.manual_seed(5)
    plain = PatchEmbed(img_size=(24, 32), patch_size=(8, 4), in_chans=3, embed_dim=10, bias=bias)
    plain.requires_grad_(not frozen)
    twin = copy.deepcopy(plain)
    use_onednn(twin)
    assert type(twin.proj) is OneDnnPatchProjection
    check_equal_values_and_gradients((plain, twin), torch.randn(2, 3, 24, 32))


@pytest.mark.parametrize(
    ("bf16", "grad", "tokens", "fused"),
    [
        (True, True, 9, False),
        (True, False, 9, True),
        (False, True, 9, True),
        (True, True, 13, True),
    ],
)
def test_short_attention_in_bf16_is_fused_only_where_nothing_is_trained(
    monkeypatch, bf16, grad, tokens, fused
):
    monkeypatch.setattr(OneDnnAttention, "SHORT", 12)
    torch.manual_seed(4)
    plain = Attention(32, num_heads=2).eval()
    twin = nn.Sequential(copy.deepcopy(plain))
    use_onednn(twin)
    found = []
    for module in (plain, twin):
        inputs = torch.linspace(-1, 1, 2 * tokens * 32).view(2, tokens, 32).requires_grad_(grad)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            outputs = module(inputs)
        if grad:
            outputs.float().square().sum().backward()
        found.append([outputs.detach(), *([inputs.grad] if grad else [])])
    assert twin[0].fused_attn is fused
    limits = {"rtol": 0.02, "atol": 2e-3} if bf16 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found[1], found[0], **limits)
