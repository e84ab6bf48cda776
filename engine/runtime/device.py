"""The device and the precision that a config means on this machine."""

import logging

import torch

from utils.errors import UserError

logger = logging.getLogger(__name__)


def choose_device(name: str, processes: int) -> torch.device:
    """The device of DEVICE, with an index where it names one GPU.

    Raises:
        UserError: It does not exist, or there are fewer of it.
    """
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
                f"DEVICE = {name}: is one GPU, but DEVICES = {processes}; set DEVICE = cuda, or "
                "DEVICES = 1"
            )
        if processes > count:
            raise UserError(
                f"DEVICES = {processes}: this machine has {count} CUDA devices; set DEVICES to "
                f"{count} or less"
            )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("DEVICE = mps: this machine has no such device; set DEVICE = auto")
    return torch.device(name)


def set_precision(name: str, device: torch.device) -> str:
    """Set PyTorch's own switches to PRECISION, and say what it is on a device."""
    precision = choose_precision(name, device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision != "fp32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    if device.type == "cpu" and precision == "bf16" and not _cpu_has_bf16():
        logger.warning(
            "PRECISION = bf16: this processor has no bf16 instructions, so bf16 is slower here; "
            "set PRECISION = fp32"
        )
    return precision


def choose_precision(name: str, device: torch.device) -> str:
    """``bf16``, ``tf32`` or ``fp32``: PRECISION, or what ``auto`` is on a device."""
    if name != "auto":
        return name
    # Older cards emulate it, slower than fp32. On a CPU it is never taken by itself: on one it pays
    # with large networks only (docs/performance.md), and results would depend on the processor.
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if on_gpu else "fp32"


def _cpu_has_bf16() -> bool:
    # The last one is ARM's.
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
