"""What a training run has reached: everything that resuming needs, in one atomic file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from utils.checkpoints import save_tensors
from utils.config.schema import NUMBERS, differences
from utils.errors import UserError
from utils.weights import read_content

VALIDATION_COLUMNS = (
    *("val_image_auroc", "val_image_ap", "val_image_f1_max"),
    *("val_pixel_auroc", "val_pixel_ap", "val_pixel_f1_max", "val_pixel_aupro"),
)
COLUMNS = (
    *("epoch", "train_loss", "lr", "seconds", "images_per_second"),
    *VALIDATION_COLUMNS,
    "query_std",
)
# A folder may move, and other slices may be background; what is compared is which images count.
_MAY_DIFFER = {"TRAIN_DATA_PATH", "VAL_DATA_PATH", "MIN_FOREGROUND"}

Row = dict[str, float | int | None]


@dataclass
class Progress:
    """What a run has done."""

    epoch: int = 0  # number of finished epochs
    best_auroc: float | None = None  # best validation image AUROC so far, None before the first
    # One per finished epoch, with the keys of ``COLUMNS``.
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> bool:
        """Count a finished epoch; True if its AUROC is the best so far."""
        self.epoch += 1
        self.rows.append(row)
        auroc = row.get("val_image_auroc")
        if auroc is None or (self.best_auroc is not None and auroc <= self.best_auroc):
            return False
        self.best_auroc = auroc
        return True


def save_state(
    path: Path, progress: Progress, config: Mapping[str, str], parts: Mapping[str, Any]
) -> None:
    """Write the training state."""
    save_tensors(path, asdict(progress) | {"config": dict(config)} | dict(parts))


def load_state(path: Path, config: Mapping[str, str]) -> tuple[Progress, dict[str, Any]]:
    """Read the training state.

    Args:
        path: The file.
        config: That of this run.

    Returns:
        What is done, and the state dicts that were saved.

    Raises:
        UserError: The file is missing, unreadable, or of a run with another config.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file, so nothing to resume; start with --overwrite instead"
        )
    content = read_content(path)
    try:
        progress = Progress(content.pop("epoch"), content.pop("best_auroc"), content.pop("rows"))
        saved = dict(content.pop("config"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: is not a training state ({error}); start over with --overwrite"
        ) from error
    differing = [
        f"{key}: {change}"
        for key, change in differences(saved, config, NUMBERS).items()
        if key not in _MAY_DIFFER
    ]
    if differing:
        raise UserError(
            f"{path}: was written with another config ({'; '.join(differing)}); resume with the "
            "old config, or start a new run with another RESULTS_PATH or --overwrite "
            "(MODEL_CKPT_PATH lets it start from these weights)"
        )
    return progress, content
