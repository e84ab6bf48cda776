"""Linear layers and MLPs that take oneDNN's kernels for fp32 on a CPU.

PyTorch hands fp32 products on a CPU to MKL, which leaves AVX-512 unused on processors that are not
Intel's; oneDNN, which PyTorch ships as well, uses it everywhere. The numbers are the same up to the
order of summation (1e-6 relative); speed is in docs/performance.md.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn import functional as F


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """The product with a weight, plus bias, and its exact GELU while it is in the cache."""
    then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, *then)


def _available() -> bool:
    """Whether this build of PyTorch has the kernel that inductor calls for linear layers."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _LinearFunction(torch.autograd.Function):
    """The kernel has no derivative of its own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs if weight.requires_grad else None, weight)
        return _onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_inputs = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_inputs = _onednn(gradient.contiguous(), weight.t(), None)
        if ctx.needs_input_grad[1]:
            of_weight = gradient.flatten(0, -2).t() @ inputs.flatten(0, -2)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.flatten(0, -2).sum(dim=0)
        return of_inputs, of_weight, of_bias


def _suits(inputs: Tensor, weight: Tensor) -> bool:
    """Whether the product is one in fp32 on a CPU, run eagerly."""
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and inputs.numel() > 0
    )


class OneDnnLinear(nn.Linear):
    """``nn.Linear``, through oneDNN where that suits."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        if not _suits(inputs, self.weight):
            return F.linear(inputs, self.weight, self.bias)
        if torch.is_grad_enabled():
            return _LinearFunction.apply(inputs, self.weight, self.bias)
        return _onednn(inputs, self.weight, self.bias)


class OneDnnMlp(Mlp):
    """timm's MLP of a transformer block; without gradients its GELU is part of the product."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        if torch.is_grad_enabled() or self.training or not _suits(inputs, self.fc1.weight):
            return super().forward(inputs)
        hidden = _onednn(inputs, self.fc1.weight, self.fc1.bias, gelu=True)
        return self.fc2(hidden)


def use_onednn(module: nn.Module) -> None:
    """Change the linear layers and MLPs inside a module in place; state-dict names stay."""
    if not _available():
        return
    for part in module.modules():
        # The twins have the same layers and weights; only their forward differs.
        if type(part) is nn.Linear:
            part.__class__ = OneDnnLinear
        elif type(part) is Mlp and type(part.act) is nn.GELU and type(part.norm) is nn.Identity:
            part.__class__ = OneDnnMlp
