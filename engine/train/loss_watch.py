"""Watching the loss without making a GPU wait at every step."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from datasets.folders.find import Split
from utils.errors import UserError

# Steps between two looks at the loss on a GPU: each look waits for the device.
GPU_LOOK_INTERVAL = 20


class LossWatch:
    """Collects an epoch's losses on the device, and looks at them now and then."""

    def __init__(self, epoch: int, split: Split, checkpoint: Path, device: torch.device) -> None:
        self.epoch = epoch
        self.split = split
        self.checkpoint = checkpoint
        self.latest = math.nan
        self.num_batches = 0
        self._total = 0.0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._interval = GPU_LOOK_INTERVAL if device.type == "cuda" else 1

    def add(self, loss: Tensor, indices: Tensor) -> None:
        """Note one batch's loss and the images it was computed on."""
        self._pending.append((loss, indices))
        self.num_batches += 1

    def look(self) -> bool:
        """Read the pending losses if it is time to (the only wait for a GPU in the loop).

        Raises:
            UserError: A loss is not finite; names epoch, files and the last good checkpoint.
        """
        due = len(self._pending) >= self._interval
        if due:
            self._read()
        return due

    def _read(self) -> None:
        if not self._pending:
            return
        losses = torch.stack([loss for loss, _ in self._pending]).tolist()
        for loss, (_, indices) in zip(losses, self._pending, strict=True):
            if not math.isfinite(loss):
                samples = self.split.samples
                files = ", ".join(samples[index].name for index in indices.tolist())
                raise UserError(
                    f"epoch {self.epoch}: the loss is {loss}; {_last_good(self.checkpoint)}. Lower "
                    f"LR or set PRECISION = fp32, and check the files of the batch: {files}"
                )
            self._total += loss
            self.latest = loss
        self._pending.clear()

    def mean(self) -> float:
        """Mean loss of the epoch so far.

        Raises:
            UserError: A loss is not finite.
        """
        self._read()
        return self._total / self.num_batches


def check_weights(weights: Mapping[str, Tensor], epoch: int, checkpoint: Path) -> None:
    """Look at the weights before they replace good ones: a loss is computed before its step.

    Raises:
        UserError: A value is not finite; names epoch, tensor and the last good checkpoint.
    """
    bad = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if bad:
        raise UserError(
            f"epoch {epoch}: the last step produced NaN or infinite weights, first in {bad[0]}; "
            f"{_last_good(checkpoint)}. Lower LR or set PRECISION = fp32"
        )


def _last_good(checkpoint: Path) -> str:
    if checkpoint.is_file():
        return f"the last good checkpoint is {checkpoint}"
    return "no checkpoint has been saved yet"
