"""COMPILE = 1: torch.compile for encoder, decoder and perceptual trunk, with static shapes."""

from collections.abc import Iterable
from functools import wraps
from typing import Any

import torch

from utils.errors import UserError

# One graph for each patch size, with gradients and without, in training and in evaluation.
_GRAPHS = 64


def compile_in_place(modules: Iterable[Any], backend: str = "inductor") -> None:
    """Compile the forward pass of modules; names of parameters and hooks stay as they are.

    Args:
        modules: Each is compiled once for every shape that it meets, at its first use.
        backend: A backend of ``torch.compile``.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _GRAPHS)
    for module in modules:
        module.forward = _compiled(module.forward, backend)


def _compiled(forward: Any, backend: str) -> Any:
    fast = torch.compile(forward, dynamic=False, backend=backend)

    @wraps(forward)
    def call(*args: Any) -> Any:
        try:
            return fast(*args)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise UserError(
                f"COMPILE = 1: PyTorch cannot compile here: {str(error.inner_exception)[:200]}; "
                "install a C++ compiler, and Triton on a GPU, or set COMPILE = 0"
            ) from error

    return call
