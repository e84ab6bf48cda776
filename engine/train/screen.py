"""What a training says: a header, then one line per epoch in columns."""

from __future__ import annotations

from tqdm import tqdm

from engine.train.state import Row

_COLUMNS = "{:>9}{:>9}{:>9}{:>10}{:>10}{:>11}{:>8}"
HEADER = _COLUMNS.format("epoch", "loss", "lr", "images/s", "time left", "val AUROC", "best")


def epoch_line(row: Row, num_epochs: int, seconds_left: float, best_auroc: float | None) -> str:
    """A finished epoch.

    Args:
        row: Its row of training.csv.
        num_epochs: Of the whole run.
        seconds_left: Until the last of them is finished.
        best_auroc: The best validation image AUROC so far, None before the first.
    """
    aurocs = (row.get("val_image_auroc"), best_auroc)
    return _COLUMNS.format(
        f"{row['epoch']}/{num_epochs}",
        f"{row['train_loss']:.4f}",
        f"{row['lr']:.1e}",
        f"{row['images_per_second']:.1f}",
        tqdm.format_interval(seconds_left),
        *("-" if auroc is None else f"{auroc:.4f}" for auroc in aurocs),
    )
