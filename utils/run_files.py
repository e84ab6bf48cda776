"""Names of the files that a run writes; scripts may rely on them."""

import csv
from pathlib import Path

from utils.errors import UserError
from utils.hub import HubFile


class TrainingFiles:
    """The files of a training run below RESULTS_PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.ini"  # resolved
        self.table = folder / "training.csv"  # one row per epoch
        self.curves = folder / "curves.png"  # loss and validation metrics by epoch
        self.tensorboard = folder / "tensorboard"
        self.last = folder / "checkpoints" / "last_ckpt.pth"  # after the last finished epoch
        self.best = folder / "checkpoints" / "best_ckpt.pth"  # of the best validation AUROC
        self.state = folder / "checkpoints" / "training_state.pth"  # all that resuming needs

    def run_exists(self) -> bool:
        """Whether there is already a run, or a checkpoint from elsewhere."""
        return any(file.exists() for file in (self.table, self.state, self.last, self.best))

    def last_epoch(self) -> int:
        """The last finished epoch; 0 if there is none."""
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
        """Remove a run before another one takes its place, and only files that a run writes.

        Leftover files would otherwise look like part of the new run. The training state goes
        first: without it, nothing is resumed.
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
    """The files of a test below RESULTS_PATH."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.ini"  # resolved
        self.scores = folder / "scores.csv"  # one row per image
        self.volumes = folder / "volumes.csv"  # one row per volume
        self.report = folder / "report.html"  # metrics, curves and gallery
        self.metrics = folder / "metrics.json"  # written last: if it exists, the test is finished
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
