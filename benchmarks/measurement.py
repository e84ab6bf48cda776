"""What is measured of a step, and the stopwatch that measures its parts."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(": ")[2] for line in lines if "model name" in line), "")
    return name or platform.processor()


@dataclass(frozen=True)
class Measurement:
    """What was measured of one kind of step.

    Attributes:
        step: ``train`` or ``test``.
        batch: Images a step.
        machine: Device, threads and precision, in words.
        seconds: One a step; reading images is not in them.
        parts: Name of a part → seconds in each step.
        peak_bytes: Highest memory of the steps: resident on a CPU, allocated on a GPU.
        flops: Floating-point operations of a step, counted.
        matmul_flops: What a large matrix product reaches in this precision, FLOP/s.
    """

    step: str
    batch: int
    machine: str
    seconds: list[float]
    parts: dict[str, list[float]]
    peak_bytes: int
    flops: int
    matmul_flops: float

    def merged(self, other: Measurement) -> Measurement:
        """Both rounds of the same measurement."""
        parts = {name: [*times, *other.parts[name]] for name, times in self.parts.items()}
        return replace(
            self,
            seconds=[*self.seconds, *other.seconds],
            parts=parts,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            matmul_flops=max(self.matmul_flops, other.matmul_flops),
        )


class Stopwatch:
    """Adds up the seconds of a step's parts; waits for a GPU where a part begins and ends."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started: dict[str, float] = {}
        self._parts: dict[str, float] = {}

    def now(self) -> float:
        """Seconds, when all that was asked of the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def start(self, part: str) -> None:
        """A part begins."""
        self._started[part] = self.now()

    def stop(self, part: str) -> None:
        """It ends."""
        elapsed = self.now() - self._started.pop(part)
        self._parts[part] = self._parts.get(part, 0.0) + elapsed

    def watch(self, module: nn.Module, part: str) -> None:
        """Count every forward pass of a module as the part."""
        module.register_forward_pre_hook(lambda *_: self.start(part))
        module.register_forward_hook(lambda *_: self.stop(part))

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call."""
        parts, self._parts = self._parts, {}
        return parts
