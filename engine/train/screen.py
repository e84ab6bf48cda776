"""What a training prints: its plan, how long it takes, then one line per epoch."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from engine.train.state import Row
from utils.config.load import Config
from utils.config.schema import TrainingConfig
from utils.run_files import TrainingFiles

_COLUMNS = "{:>9}{:>9}{:>9}{:>10}{:>10}{:>11}{:>8}"
HEADER = _COLUMNS.format("epoch", "loss", "lr", "images/s", "time left", "val AUROC", "best")
TESTS_ON_VALIDATION = (
    "TEST_DATA_PATH is the folder of the validation images, %s: metrics on it are too optimistic, "
    "and run_test.py applies no threshold; set TEST_DATA_PATH to a folder of other patients"
)


def plan(settings: TrainingConfig, num_training: int, num_validation: int, num_batches: int) -> str:
    """What is to be done; ``num_batches`` are those of an epoch."""
    steps = num_batches // settings.accumulate
    images = settings.batch_size_train * settings.accumulate
    return (
        f"{num_training} training and {num_validation} validation images\n"
        f"epochs: {settings.n_epochs} (N_EPOCHS); steps per epoch: {steps} ({images} images "
        f"each); validation every {settings.eval_stepsize} (EVAL_STEPSIZE)"
    )


def forecast(seconds: float) -> str:
    """How long the training will take, as its first steps show."""
    if seconds < 60:
        return "less than a minute left, not counting validation"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {f'{hours} h ' * (hours > 0)}{minutes} min left, not counting validation"


def command_to_test(config: Config, folder: Path, overrides: Sequence[str]) -> str:
    """What to run after a training.

    Args:
        config: A config with a section [TESTING].
        folder: Where the training's results are.
        overrides: ``--set`` of the training. Where one moved its results, the test's follow: they
            would lie among the training's, or in the folder of another run's test.
    """
    files = TrainingFiles(folder)
    sets: dict[str, object] = {}
    for key, value in (each.split("=", 1) for each in overrides):
        name = key.strip().upper()
        if name.removeprefix("TRAINING.") == "RESULTS_PATH":
            moved = {"TRAINING.RESULTS_PATH": folder, "TESTING.RESULTS_PATH": folder / "test"}
            # A folder that was set for the test wins.
            sets = moved | sets
        else:
            sets[name] = value
    if not any(map(files.holds, config.need_testing().checkpoints)):
        sets["CHECKPOINT_PATH"] = files.last
    options = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    return shlex.join(["python", "run_test.py", "--config", config.file, *options])


def epoch_line(row: Row, num_epochs: int, seconds_left: float, best_auroc: float | None) -> str:
    """A finished epoch."""
    aurocs = (row.get("val_image_auroc"), best_auroc)
    return _COLUMNS.format(
        f"{row['epoch']}/{num_epochs}",
        f"{row['train_loss']:.4f}",
        f"{row['lr']:.1e}",
        f"{row['images_per_second']:.1f}",
        tqdm.format_interval(seconds_left),
        *("-" if auroc is None else f"{auroc:.4f}" for auroc in aurocs),
    )
