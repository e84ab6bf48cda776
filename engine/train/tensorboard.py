"""Writes the values of training.csv for TensorBoard too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from engine.train.state import Row
from utils.errors import UserError


class TensorboardLog:
    """Event files of a run; each method raises as the class does.

    Args:
        folder: Where they go.
        first_epoch: The first epoch, from 1; TensorBoard hides events that an earlier or killed run
            wrote for this and later epochs.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        self._folder = folder
        with self._faults_told():
            self._writer = SummaryWriter(folder, purge_step=first_epoch)

    def add(self, row: Row) -> None:
        """Write an epoch to the disk."""
        with self._faults_told():
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    self._writer.add_scalar(name.replace("val_", "val/"), value, row["epoch"])
            self._writer.flush()

    def close(self) -> None:
        """End the writer's thread."""
        with self._faults_told():
            self._writer.close()

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._folder}: cannot be written ({error}); finished epochs are saved"
            ) from error
