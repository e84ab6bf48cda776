"""The published optimiser and schedule: Adam without weight decay, one cycle of the rate."""

from collections.abc import Iterable

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR


def create_optimizer(
    parameters: Iterable[nn.Parameter], *, lr: float, total_steps: int
) -> tuple[Adam, OneCycleLR]:
    """Adam and its schedule, which rises over the first 15 % of all steps."""
    parameters = list(parameters)
    fused = parameters[0].device.type == "cuda"
    optimizer = Adam(parameters, lr=lr, fused=fused)
    return optimizer, OneCycleLR(optimizer, max_lr=lr, pct_start=0.15, total_steps=total_steps)
