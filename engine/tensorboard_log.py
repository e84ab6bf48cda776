"""The table of a training run once more, for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from engine.training_state import Row
from utils.errors import UserError


class TensorboardLog:
    """Event files that hold each finished epoch once.

    Event files can only grow, so that a killed run leaves torn and doubled records. A resumed run
    therefore writes them anew, from the rows of its training state.

    Args:
        folder: Where event files go; those of the run before are removed.
        rows: Epochs that are finished already.

    Raises:
        UserError: The folder cannot be written.
    """

    def __init__(self, folder: Path, rows: Iterable[Row]) -> None:
        self._folder = folder
        try:
            for file in folder.glob("events.out.tfevents.*"):
                file.unlink()
            self._writer = SummaryWriter(folder)
            for row in rows:
                self._add(row)
            self._writer.flush()
        except OSError as error:
            raise self._not_writable(error) from error

    def add(self, row: Row) -> None:
        """Write an epoch.

        Raises:
            UserError: The folder cannot be written.
        """
        try:
            self._add(row)
            self._writer.flush()
        except OSError as error:
            raise self._not_writable(error) from error

    def _add(self, row: Row) -> None:
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name.replace("val_", "val/"), value, row["epoch"])

    def close(self) -> None:
        """End the writer's thread, whatever state it is in."""
        try:
            self._writer.close()
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> UserError:
        return UserError(f"{self._folder}: cannot be written ({error}); finished epochs are saved")
