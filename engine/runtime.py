"""Device, precision and processes, carried by Lightning Fabric."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from utils.config.schema import SectionConfig
from utils.errors import UserError

logger = logging.getLogger(__name__)
Value = TypeVar("Value")


def create_fabric(config: SectionConfig) -> Fabric:
    """Fabric on the configured device, launched.

    Raises:
        UserError: The device is not there, or a launcher has started another number of processes.
    """
    accelerator, devices = _device(config.device, config.devices)
    processes = config.devices * config.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) != processes:
        raise UserError(
            f"DEVICES = {config.devices}, NUM_NODES = {config.num_nodes}: {processes} processes, "
            f"but torchrun has started {os.environ['WORLD_SIZE']}; give the same numbers to both"
        )
    precision = _precision(config.precision, accelerator)
    if accelerator == "cuda":
        torch.set_float32_matmul_precision("high" if precision != "fp32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    with warnings.catch_warnings():
        # Fabric's advice on SLURM and on the number of devices is not for our users.
        warnings.simplefilter("ignore")
        try:
            fabric = Fabric(
                accelerator=accelerator,
                devices=devices,
                num_nodes=config.num_nodes,
                # All buffers are constants, equal on all processes.
                strategy=DDPStrategy(broadcast_buffers=False) if processes > 1 else "auto",
                precision="bf16-mixed" if precision == "bf16" else "32-true",
            )
        except ValueError as error:
            # What `fabric run` or SLURM was told differs.
            raise UserError(
                f"DEVICES = {config.devices}, NUM_NODES = {config.num_nodes}: {error}"
            ) from error
        # Under `fabric run` the processes are there already.
        if os.environ.get("LT_CLI_USED") != "1":
            fabric.launch()
    if fabric.global_rank:
        # What all processes would say, the first one says.
        logging.disable(logging.WARNING)
    logger.info("device %s, precision %s", fabric.device, precision)
    return fabric


def _device(name: str, processes: int) -> tuple[str, list[int] | int]:
    if name == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else mps
    kind, _, index = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if int(index or 0) >= count:
            raise UserError(
                f"DEVICE = {name}: this machine has {count} CUDA devices; set DEVICE = auto, or "
                "pass --set DEVICE=auto"
            )
        if index and processes > 1:
            raise UserError(
                f"DEVICE = {name}: is one GPU, and DEVICES = {processes}; set DEVICE = cuda, or "
                "DEVICES = 1"
            )
        if processes > count:
            raise UserError(f"DEVICES = {processes}: this machine has {count}; give at most that")
        return "cuda", [int(index)] if index else processes
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE = mps: there is no such device; set DEVICE = auto")
    return kind, processes


def _precision(name: str, accelerator: str) -> str:
    if name != "auto":
        return name
    return "bf16" if accelerator == "cuda" and _bf16_in_hardware() else "fp32"


def _bf16_in_hardware() -> bool:
    # Older cards emulate it, slower than fp32.
    return torch.cuda.is_bf16_supported(including_emulation=False)


def place(fabric: Fabric, module: nn.Module, *, keep_frozen: bool = False) -> None:
    """Move a module to the device; in bf16, its frozen linear layers are stored in bf16.

    Autocast would round those weights in every forward pass, to the same numbers.

    Args:
        fabric: Device and precision.
        module: A model or a criterion.
        keep_frozen: Leave frozen weights as they are, where they are going to be saved, or used
            without autocast.
    """
    module.to(fabric.device)
    if computes_in_bf16(fabric) and not keep_frozen:
        for part in module.modules():
            if isinstance(part, nn.Linear) and not part.weight.requires_grad:
                part.to(torch.bfloat16)


def computes_in_bf16(fabric: Fabric) -> bool:
    """Whether matrix products are computed in bf16."""
    with fabric.autocast():
        return torch.is_autocast_enabled(fabric.device.type)


def gather(fabric: Fabric, value: Value) -> list[Value]:
    """Every process's value, in the order of ranks, on every process."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def shard(count: int, fabric: Fabric) -> Sequence[int]:
    """The indices of this process: every one stands on one process and on one only."""
    return range(fabric.global_rank, count, fabric.world_size)


def versions() -> dict[str, str]:
    """Versions of what numbers depend on."""
    import timm
    import torchvision

    return {
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "threads": os.environ.get("OMP_NUM_THREADS", str(torch.get_num_threads())),
    }
