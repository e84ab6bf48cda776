"""Names of the files that a run writes; scripts may rely on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainingFiles:
    """The files under the RESULTS_PATH of a training run.

    Attributes:
        folder: RESULTS_PATH.
    """

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.folder / "config.ini"

    @property
    def table(self) -> Path:
        """One row an epoch."""
        return self.folder / "training.csv"

    @property
    def curves(self) -> Path:
        """Loss and validation metrics by epoch, as a picture."""
        return self.folder / "curves.png"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.folder / "tensorboard"

    @property
    def last(self) -> Path:
        """The model after the last finished epoch."""
        return self.folder / "checkpoints" / "last_ckpt.pth"

    @property
    def best(self) -> Path:
        """The model with the best validation AUROC."""
        return self.folder / "checkpoints" / "best_ckpt.pth"

    @property
    def state(self) -> Path:
        """All that resuming needs."""
        return self.folder / "checkpoints" / "training_state.pth"


def same_folder(one: Path, other: Path) -> bool:
    """Whether two paths name one folder."""
    return one.resolve() == other.resolve()
