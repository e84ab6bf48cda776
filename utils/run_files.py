"""Names of the files that a run writes; scripts may rely on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from utils.errors import UserError
from utils.hub import HubFile


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
        """One row per epoch."""
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

    @property
    def best_calibration(self) -> Path:
        """Threshold and colour scale of the best model, see engine.evaluate.calibration."""
        return self.best.with_suffix(".calibration.json")

    @property
    def last_calibration(self) -> Path:
        """The same of the last one."""
        return self.last.with_suffix(".calibration.json")

    def run_exists(self) -> bool:
        """Whether a run, or a checkpoint from elsewhere, stands there already."""
        return any(file.exists() for file in (self.table, self.state, self.last, self.best))

    def holds(self, checkpoint: Path | HubFile) -> bool:
        """Whether a checkpoint is one that this run writes."""
        own = (self.last, self.best, self.state)
        return isinstance(checkpoint, Path) and checkpoint.resolve() in [
            file.resolve() for file in own
        ]

    def remove_run(self) -> None:
        """Remove a run before another one takes its place, and nothing that no run has written.

        What is left half-way would otherwise be taken for the new run's. The training state goes
        first: without it, nothing is resumed.

        Raises:
            UserError: A file cannot be removed.
        """
        checkpoints = (self.last, self.best, self.last_calibration, self.best_calibration)
        events = self.tensorboard.glob("events.out.tfevents.*")
        for file in (self.state, *checkpoints, self.table, self.curves, self.config, *events):
            remove(file)


@dataclass(frozen=True)
class TestFiles:
    """The files under the RESULTS_PATH of a test.

    Attributes:
        folder: RESULTS_PATH.
    """

    __test__ = False

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.folder / "config.ini"

    @property
    def scores(self) -> Path:
        """One row per image."""
        return self.folder / "scores.csv"

    @property
    def volumes(self) -> Path:
        """One row per volume; only where there are volumes."""
        return self.folder / "volumes.csv"

    @property
    def report(self) -> Path:
        """Metrics, curves and gallery."""
        return self.folder / "report.html"

    @property
    def metrics(self) -> Path:
        """The metrics; written last, so that its presence means that the test is finished."""
        return self.folder / "metrics.json"


def remove(file: Path) -> None:
    """Remove a file of an earlier run, if it is there.

    Raises:
        UserError: It cannot be removed.
    """
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{file}: cannot be removed ({error.strerror})") from error


def same_folder(one: Path, other: Path) -> bool:
    """Whether two paths name one folder."""
    return one.resolve() == other.resolve()
