"""Names of the files that a run writes; scripts may rely on them."""

from __future__ import annotations

import csv
from pathlib import Path

from utils.errors import UserError
from utils.hub import HubFile


class TrainingFiles:
    """The files of a training run.

    Attributes:
        config: The resolved configuration.
        table: One row per epoch.
        curves: Loss and validation metrics by epoch, as a picture.
        tensorboard: Folder of TensorBoard's event files.
        last: The model after the last finished epoch.
        best: The model with the best validation AUROC.
        state: All that resuming needs.

    Args:
        folder: RESULTS_PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.ini"
        self.table = folder / "training.csv"
        self.curves = folder / "curves.png"
        self.tensorboard = folder / "tensorboard"
        self.last = folder / "checkpoints" / "last_ckpt.pth"
        self.best = folder / "checkpoints" / "best_ckpt.pth"
        self.state = folder / "checkpoints" / "training_state.pth"

    def run_exists(self) -> bool:
        """Whether a run, or a checkpoint from elsewhere, stands there already."""
        return any(file.exists() for file in (self.table, self.state, self.last, self.best))

    def last_epoch(self) -> int:
        """The last epoch that is finished; 0 where there is none."""
        if not self.table.is_file():
            return 0
        with self.table.open(newline="", encoding="utf-8") as file:
            return max((int(row["epoch"]) for row in csv.DictReader(file)), default=0)

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
        checkpoints = (self.last, self.best)
        learnt = (
            learnt
            for file in checkpoints
            for pattern in (".calibration*.json", ".baseline.pth")
            for learnt in file.parent.glob(file.stem + pattern)
        )
        events = self.tensorboard.glob("events.out.tfevents.*")
        tables = (self.table, self.curves, self.config)
        for file in (self.state, *checkpoints, *learnt, *tables, *events):
            remove(file)


class TestFiles:
    """The files of a test.

    Attributes:
        config: The resolved configuration.
        scores: One row per image.
        report: Metrics, curves and gallery.
        metrics: The metrics; written last, so that its presence means that the test is finished.
        roc, histogram, cases: Pictures.

    Args:
        folder: RESULTS_PATH.
    """

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.ini"
        self.scores = folder / "scores.csv"
        self.volumes = folder / "volumes.csv"
        self.report = folder / "report.html"
        self.metrics = folder / "metrics.json"
        self.roc = folder / "roc.png"
        self.histogram = folder / "histogram.png"
        self.cases = folder / "cases.png"


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
