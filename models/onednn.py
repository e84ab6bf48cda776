"""Layers that use oneDNN's kernels on a CPU: linear, MLP and patch projection in fp32.

PyTorch hands fp32 products on a CPU to MKL, which leaves AVX-512 unused on processors that are not
Intel's; oneDNN, which PyTorch ships as well, uses it everywhere. On Intel's MKL stays, which is as
fast. The numbers are the same up to the order of summation (1e-6 relative); speed is in
benchmarks/README.md. In bf16 short attention takes them, where it is trained through.
"""

from typing import Any, ClassVar

import torch
from einops import rearrange
from timm.layers import Attention, Mlp, PatchEmbed
from torch import Tensor, nn
from torch.nn import functional as F

_PROCESSOR = torch.cpu.get_capabilities().get("cpu_name", "")
# inductor calls the same kernel; a build of PyTorch may lack it.
_FASTER = hasattr(torch.ops.mkldnn, "_linear_pointwise") and not _PROCESSOR.startswith("Intel")


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """The product with a weight, plus bias, with an exact GELU fused in if asked."""
    then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, *then)


class _LinearFunction(torch.autograd.Function):
    """The product with its derivative, which the kernel lacks; optionally GELU of its input first.

    The GELU is computed again in the backward pass instead of being kept until then: an MLP's
    hidden layer is the largest thing that a block keeps.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, gelu_before: bool
    ) -> Tensor:
        needs_inputs = gelu_before or weight.requires_grad
        ctx.save_for_backward(inputs if needs_inputs else None, weight)
        ctx.gelu_before = gelu_before
        return _onednn(F.gelu(inputs) if gelu_before else inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_inputs = of_weight = of_bias = None
        # Weights first: what they need is freed before the gradient of the input is made.
        if ctx.needs_input_grad[1]:
            factors = F.gelu(inputs) if ctx.gelu_before else inputs
            of_weight = gradient.flatten(0, -2).t() @ factors.flatten(0, -2)
            del factors
        if ctx.needs_input_grad[2]:
            of_bias = gradient.flatten(0, -2).sum(dim=0)
        if ctx.needs_input_grad[0]:
            of_inputs = _onednn(gradient.contiguous(), weight.t(), None)
            if ctx.gelu_before:
                torch.ops.aten.gelu_backward.grad_input(of_inputs, inputs, grad_input=of_inputs)
        return of_inputs, of_weight, of_bias, None


def _suits(inputs: Tensor, weight: Tensor) -> bool:
    """Whether the product is one in fp32 on a CPU, run eagerly, and faster in oneDNN."""
    return (
        _FASTER
        and inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and inputs.numel() > 0
    )


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _suits(inputs, weight):
        return F.linear(inputs, weight, bias)
    return _LinearFunction.apply(inputs, weight, bias, False)


class OneDnnLinear(nn.Linear):
    """``nn.Linear``, through oneDNN where that suits."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return _linear(inputs, self.weight, self.bias)


class OneDnnPatchProjection(nn.Conv2d):
    """The convolution that turns patches into tokens, as one product.

    Patches do not overlap, so it is a linear layer of their pixels; kernels for convolutions are
    slow where patches are large.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) → (B, D, H/p, W/p)."""
        if inputs.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(inputs)
        height, width = self.kernel_size
        patches = rearrange(inputs, "b c (y p) (x q) -> b y x (c p q)", p=height, q=width)
        return _linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class OneDnnMlp(Mlp):
    """timm's MLP of a transformer block, with its GELU beside the products."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        dropout = self.training and (self.drop1.p > 0 or self.drop2.p > 0)
        if dropout or not _suits(inputs, self.fc1.weight):
            return super().forward(inputs)
        if torch.is_grad_enabled():
            hidden = self.fc1(inputs)
            return _LinearFunction.apply(hidden, self.fc2.weight, self.fc2.bias, True)
        hidden = _onednn(inputs, self.fc1.weight, self.fc1.bias, gelu=True)
        return self.fc2(hidden)


class OneDnnAttention(Attention):
    """timm's attention; as two products where a backward pass in bf16 follows.

    PyTorch's fused kernel for bf16 on a CPU is slow in the backward pass: up to ``SHORT`` tokens it
    takes longer, at 50 tokens 4 times as long (benchmarks/README.md).
    """

    SHORT: ClassVar[int] = 400

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            in_bf16 = torch.is_autocast_enabled("cpu")
            in_two = in_bf16 and x.requires_grad and x.shape[1] <= self.SHORT
            # For TorchScript's sake timm calls it final; each call reads it again.
            vars(self)["fused_attn"] = not in_two
        return super().forward(x, attn_mask, is_causal)


def use_onednn(module: nn.Module) -> None:
    """Replace layers in place; weight names do not change."""
    for part in module.modules():
        # The twins have the same layers and weights; only their forward differs.
        if type(part) is nn.Linear:
            part.__class__ = OneDnnLinear
        elif type(part) is Mlp and type(part.act) is nn.GELU and type(part.norm) is nn.Identity:
            part.__class__ = OneDnnMlp
        elif type(part) is Attention and part.fused_attn:
            part.__class__ = OneDnnAttention
        elif isinstance(part, PatchEmbed) and type(part.proj) is nn.Conv2d:
            part.proj.__class__ = OneDnnPatchProjection
