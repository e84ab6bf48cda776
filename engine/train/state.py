"""What a training run has reached: everything that resuming needs, in one atomic file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.checkpoints import save_tensors, write_csv
from utils.config.schema import NUMBERS, differences
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
_DATA = {"TRAIN_DATA_PATH", "VAL_DATA_PATH"}
_IMAGES = {"TRAIN_IMAGES", "VAL_IMAGES"}

Row = dict[str, float | int | None]


@dataclass
class Progress:
    """What a run has done.

    Attributes:
        epoch: Number of finished epochs.
        best_auroc: Best validation image AUROC so far, None before the first.
        rows: One per finished epoch, with the keys of ``COLUMNS``.
    """

    epoch: int = 0
    best_auroc: float | None = None
    rows: list[Row] = field(default_factory=list)

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
        raise UserError(f"{path}: no such file, nothing to resume; start with --overwrite instead")
    content = read_content(path)
    try:
        progress = Progress(content.pop("epoch"), content.pop("best_auroc"), content.pop("rows"))
        saved = dict(content.pop("config"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: is no training state ({error}); start anew with --overwrite"
        ) from error
    if content.get("unfinished"):
        raise UserError(
            f"{path}: an earlier version was stopped there within an epoch; start anew with "
            "--overwrite"
        )
    # A folder may move, its images not change; older states hold its path alone.
    may_differ = _DATA if saved.keys() >= _IMAGES else _IMAGES
    differing = [
        f"{key}: {change}"
        for key, change in differences(saved, config, NUMBERS).items()
        if key not in may_differ
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
