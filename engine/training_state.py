"""What a training run has reached: everything that resuming needs, in one atomic file."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.checkpoints import save_tensors, write_csv
from utils.errors import UserError
from utils.weights import read_content

VALIDATION_COLUMNS = (
    "val_image_auroc",
    "val_image_ap",
    "val_image_f1_max",
    "val_pixel_auroc",
    "val_pixel_ap",
    "val_pixel_f1_max",
    "val_pixel_aupro",
)
COLUMNS = ("epoch", "train_loss", "lr", "seconds", "images_per_second", *VALIDATION_COLUMNS)
# Where a run goes, how loud it is, and on what it runs may change when it is resumed.
_MAY_DIFFER = {
    "RESULTS_PATH",
    "NUM_WORKERS",
    "DEVICE",
    "DEVICES",
    "NUM_NODES",
    "CACHE_DIR",
    "CACHE_IMAGES",
    "EXPERIMENT_NAME",
    "BATCH_SIZE_TEST",
    "OBJECT",
    "SCHEDULER_STEPS",
    "SCHEDULER_GAMMA",
}
_DATA = {"TRAIN_DATA_PATH", "VAL_DATA_PATH"}
_IMAGES = {"TRAIN_IMAGES", "VAL_IMAGES"}

Row = dict[str, float | int | None]


@dataclass(frozen=True)
class UnfinishedEpoch:
    """What a signal stopped, between two steps.

    Attributes:
        num_batches: Batches that are done, of all processes together.
        total_loss: Sum of their losses.
        seconds: Time that they took.
        generators: States of torch's random generators by type of device.
    """

    num_batches: int
    total_loss: float
    seconds: float
    generators: dict[str, Tensor]

    @classmethod
    def now(cls, num_batches: int, total_loss: float, seconds: float) -> UnfinishedEpoch:
        """The same, with the generators as they are."""
        generators = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_initialized():
            generators["cuda"] = torch.cuda.get_rng_state()
        return cls(num_batches, total_loss, seconds, generators)

    def check(self, batches_an_epoch: int, accumulate: int) -> None:
        """Look at what was read from a file.

        Raises:
            ValueError, TypeError, KeyError, RuntimeError: A value cannot be.
        """
        done = operator.index(self.num_batches)
        between_steps = done % accumulate == 0 or done == batches_an_epoch
        if not (0 < done <= batches_an_epoch and between_steps):
            raise ValueError(f"{done} of {batches_an_epoch} batches of an epoch are done")
        if not math.isfinite(self.total_loss) or not 0 < self.seconds < math.inf:
            raise ValueError("the loss or the time of the unfinished epoch is none")
        self.set_generators()

    def set_generators(self) -> None:
        """Let torch draw the numbers that an unbroken run would draw now.

        Raises:
            KeyError, RuntimeError, TypeError: A state is missing, or not one of a generator.
        """
        torch.set_rng_state(self.generators["cpu"])
        if "cuda" in self.generators and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.generators["cuda"])


@dataclass
class Progress:
    """What a run has done.

    Attributes:
        epoch: Number of finished epochs.
        best_auroc: Best validation image AUROC so far, None before the first.
        rows: One a finished epoch, with the keys of ``COLUMNS``.
        unfinished: The epoch after them, where a signal stopped it.
    """

    epoch: int = 0
    best_auroc: float | None = None
    rows: list[Row] = field(default_factory=list)
    unfinished: UnfinishedEpoch | None = None

    def write_table(self, path: Path) -> None:
        """Write all rows as CSV, atomically: never a doubled or a missing one."""
        write_csv(path, COLUMNS, ([row.get(name) for name in COLUMNS] for row in self.rows))


def save_state(
    path: Path, progress: Progress, config: Mapping[str, str], parts: Mapping[str, Any]
) -> None:
    """Write the training state.

    Args:
        path: The file.
        progress: What is done.
        config: INI keys of [TRAINING] and what the images are, to compare on resuming.
        parts: State dicts of model, optimizer and scheduler.
    """
    content = {
        "epoch": progress.epoch,
        "best_auroc": progress.best_auroc,
        "rows": progress.rows,
        "unfinished": progress.unfinished and asdict(progress.unfinished),
        "config": dict(config),
    }
    save_tensors(path, content | dict(parts))


def load_state(path: Path, config: Mapping[str, str]) -> tuple[Progress, dict[str, Any]]:
    """Read the training state.

    Args:
        path: The file.
        config: The same of this run.

    Returns:
        What is done, and the state dicts that were saved.

    Raises:
        UserError: The file is missing, unreadable, or of a run with another config.
    """
    if not path.is_file():
        raise _missing(path)
    content = read_content(path)
    try:
        progress = Progress(content.pop("epoch"), content.pop("best_auroc"), content.pop("rows"))
        unfinished = content.pop("unfinished", None)
        progress.unfinished = unfinished and UnfinishedEpoch(**unfinished)
        saved = dict(content.pop("config"))
        sound = [row["epoch"] for row in progress.rows] == list(range(1, progress.epoch + 1))
        sound &= all(row.keys() <= set(COLUMNS) for row in progress.rows)
        float(progress.best_auroc or 0.0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    if not sound:
        raise _damaged(path, "rows and epochs differ")
    # A folder may move, its images not change; older states hold its path alone.
    may_differ = _MAY_DIFFER | (_DATA if saved.keys() >= _IMAGES else _IMAGES)
    differing = [
        f"{key}: was {saved.get(key, '')!r}, is {config.get(key, '')!r}"
        for key in sorted(set(saved) | set(config))
        if saved.get(key, "") != config.get(key, "") and key not in may_differ
    ]
    if differing:
        raise UserError(
            f"{path}: was written with another config ({'; '.join(differing)}); resume with the "
            "old one, or start anew with another RESULTS_PATH or --overwrite"
        )
    return progress, content


def describe(row: Row) -> str:
    """One line on a finished epoch."""
    parts = [f"epoch {row['epoch']}: loss {row['train_loss']:.4f}", f"{row['seconds']:.1f} s"]
    for key, name in (("val_image_auroc", "image AUROC"), ("val_pixel_auroc", "pixel AUROC")):
        if row.get(key) is not None:
            parts.append(f"validation {name} {row[key]:.4f}")
    return ", ".join(parts)


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Look at what an optimizer was given to go on with.

    Raises:
        ValueError: A tensor does not fit its parameter, or holds a value that is not finite.
    """
    for parameter, state in optimizer.state.items():
        for name, tensor in state.items():
            wanted = parameter.shape if name.startswith("exp_avg") else torch.Size()
            if tensor.shape != wanted:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(wanted)}")
            if not tensor.isfinite().all():
                raise ValueError(f"{name} holds a value that is not finite")


def _missing(path: Path) -> UserError:
    return UserError(f"{path}: no such file, nothing to resume; start with --overwrite instead")


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: is no training state ({reason}); start anew with --overwrite")
