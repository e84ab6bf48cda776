"""What loader processes read, so that the death of one can be told with the name of a file."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datasets.formats import shown
from datasets.samples import Sample
from utils.errors import UserError

Element = TypeVar("Element")

# What torch says, at any line of the main process: "DataLoader worker (pid 7) is killed by
# signal: Killed." or "DataLoader worker (pid(s) 7, 8) exited unexpectedly".
_DEATH = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) ([^.\n]*)")

# After SIGTERM of others. A step of a large model with a large batch takes minutes on a CPU; a
# reader whose main process is gone ends by itself.
_SECONDS_TO_OUTLIVE = 1800


class LoaderDied(UserError):
    """A loader process has died, most often because the system is short of memory."""


class Watched(Dataset[Element]):
    """A data set whose loader processes note which sample they take.

    Args:
        dataset: Its keys are positions among ``samples``, or tuples that end with one.
        samples: What the keys mean.
        num_workers: Loader processes.
    """

    def __init__(
        self, dataset: Dataset[Element], samples: Sequence[Sample], num_workers: int
    ) -> None:
        self.dataset = dataset
        self.samples = samples
        # (num_workers, 2): number of the process, position of the sample that it took last.
        self.taken = torch.zeros(num_workers, 2, dtype=torch.int64).share_memory_()
        _watched.add(self)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Any) -> Element:
        """The item, noted before it is read."""
        worker = get_worker_info()
        if worker is not None:
            position = key if isinstance(key, int) else key[-1]
            self.taken[worker.id] = torch.tensor([os.getpid(), position])
        return self.dataset[key]

    def taken_by(self, process: int) -> Sample | None:
        """The sample that a process took last, None where it is not one of ours."""
        for number, position in self.taken.tolist():
            if number == process:
                return self.samples[position]
        return None


_watched: WeakSet[Watched[Any]] = WeakSet()


class WatchedLoader(DataLoader[Element]):
    """A loader that may be interrupted while its processes start.

    A signal, or the death of the first processes, raises in the middle of it; torch's half-built
    iterator then prints a traceback of its own when it is freed, behind what the user is told.
    """

    def __iter__(self) -> Any:
        """Batches."""
        try:
            return super().__iter__()
        except BaseException as error:
            with _silent_finalizers():
                traceback.clear_frames(error.__traceback__)
            raise


def outlive_stop_requests(_: int) -> None:
    """Makes a loader process go on for a while after SIGINT and SIGTERM (a ``worker_init_fn``).

    Terminals and schedulers signal all processes of a job at once. It is the main one that stops,
    in good order, and then ends this one, whose death would be told at any line of the main one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main = parent_process()
    # Not on macOS: there it dies, and the main process knows a death behind a signal.
    if main is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_at_once_by, args=(main.pid,), daemon=True).start()


def _end_at_once_by(main: int) -> None:
    """A fault of the main process ends it by SIGTERM, and waits until it has ended."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        signal.alarm(_SECONDS_TO_OUTLIVE)
    os._exit(0)


@contextmanager
def _silent_finalizers() -> Iterator[None]:
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def loader_deaths_told() -> Iterator[None]:
    """A death of a loader process in the block becomes an error that names what it read.

    Raises:
        LoaderDied: A loader process has died.
    """
    try:
        yield
    except (RuntimeError, UserError) as error:
        # A UserError where torch raised while a file was being written.
        death = _DEATH.search(str(error))
        if death is None:
            raise
        processes = [int(each) for each in re.findall(r"\d+", death[1])]
        samples = [each.taken_by(number) for number in processes for each in list(_watched)]
        names = ", ".join(shown(sample.path) for sample in samples if sample) or "nothing yet"
        raise LoaderDied(
            f"a loader process {death[2].strip()}; it read {names}. Where memory ran out, lower "
            "NUM_WORKERS or the batch size; else look at the file"
        ) from error
