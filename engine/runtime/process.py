"""Where a model runs, and how the processes that share the work divide it."""

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import torch
import torch.distributed
from torch import nn

from engine.runtime.device import choose_device, set_precision
from utils.config.schema import SectionConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

# Set by torchrun and `fabric run`, by `fabric run`, by SLURM.
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "LT_CLI_USED", "SLURM_NTASKS")


@dataclass(frozen=True)
class OneProcess:
    """What scoring needs of Lightning Fabric, for a single process."""

    device: torch.device
    bf16: bool
    global_rank: ClassVar[int] = 0
    world_size: ClassVar[int] = 1
    is_global_zero: ClassVar[bool] = True

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, matrix products are computed in bf16, where it is on."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


# Device, precision, and this process among those that share the work.
Runtime: TypeAlias = "Fabric | OneProcess"


def create_runtime(config: SectionConfig) -> Runtime:
    """Where a config says that its model scores; starts the other processes, if there are any.

    Raises:
        UserError: The device is not there, or a launcher has started another number of processes.
    """
    if config.devices * config.num_nodes > 1 or any(name in os.environ for name in _LAUNCHERS):
        # Here, because one process, such as a user's own program, does without this import.
        from engine.runtime.fabric import create_fabric

        return create_fabric(config)
    device = choose_device(config.device, config.devices)
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        # As Fabric does: else PyTorch would take memory of the first GPU as well.
        torch.cuda.set_device(device)
    precision = set_precision(config.precision, device)
    logger.info("device %s, precision %s", device, precision)
    return OneProcess(device, bf16=precision == "bf16")


def place(runtime: Runtime, module: nn.Module, *, keep_frozen: bool = False) -> None:
    """Move a module to the device; in bf16, store its frozen weights of products so.

    Autocast would round those weights in every forward pass, to the same numbers.

    Args:
        runtime: Device and precision.
        module: A model or a criterion.
        keep_frozen: Leave frozen weights as they are, where they are going to be saved.
    """
    module.to(runtime.device)
    if computes_in_bf16(runtime) and not keep_frozen:
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Conv2d) and not part.weight.requires_grad:
                part.to(torch.bfloat16)


def computes_in_bf16(runtime: Runtime) -> bool:
    """Whether matrix products are computed in bf16."""
    with runtime.autocast():
        return torch.is_autocast_enabled(runtime.device.type)


def gather(runtime: Runtime, value: Value) -> list[Value]:
    """Every process's value, in the order of ranks, on every process."""
    if runtime.world_size == 1:
        return [value]
    values: list[Any] = [None] * runtime.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def shard(count: int, runtime: Runtime) -> Sequence[int]:
    """The indices of this process: each index belongs to exactly one process."""
    return range(runtime.global_rank, count, runtime.world_size)
