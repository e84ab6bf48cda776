"""Processes that kill themselves at a chosen moment while they write a file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.summary.writer.record_writer import RecordWriter


class _Clock:
    """Counts moments, and kills the process with SIGKILL at the chosen one."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.passed = 0

    def tick(self, last_words: Callable[[], Any] = lambda: None) -> None:
        self.passed += 1
        if self.passed == self.moment:
            last_words()
            os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment: int) -> None:
    """Make each step of writing a file a moment.

    For each file: half of its first bytes are written, all is written but not yet on the disk,
    it is on the disk but not yet renamed, it is renamed. For TensorBoard: half of a record.
    """
    clock = _Clock(moment)
    fsync, replace, open_, write = os.fsync, Path.replace, Path.open, RecordWriter.write

    def deadly_open(self: Path, *arguments: Any, **options: Any) -> Any:
        file = open_(self, *arguments, **options)
        return _DeadlyFile(file, clock) if self.name.startswith(".tmp-") else file

    def deadly_fsync(descriptor: int) -> None:
        clock.tick()
        fsync(descriptor)

    def deadly_replace(self: Path, target: Path) -> Path:
        clock.tick()
        result = replace(self, target)
        clock.tick()
        return result

    def deadly_record(self: Any, data: bytes) -> None:
        half = data[: len(data) // 2]
        clock.tick(lambda: (self._writer.write(half), self._writer.flush()))
        write(self, data)

    os.fsync = deadly_fsync
    Path.replace = deadly_replace
    Path.open = deadly_open
    RecordWriter.write = deadly_record


class _DeadlyFile:
    """A file whose first write is a moment."""

    def __init__(self, inner: Any, clock: _Clock) -> None:
        self._inner = inner
        self._clock = clock
        self._begun = False

    def write(self, data: Any) -> Any:
        if not self._begun:
            self._begun = True
            half = bytes(data)[: len(data) // 2]
            self._clock.tick(lambda: (self._inner.write(half), self._inner.flush()))
        return self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> _DeadlyFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()


def _child(moment: int, function: Callable[[], Any]) -> None:
    # What the dying say is no news.
    with Path(os.devnull).open("w") as sys.stdout, Path(os.devnull).open("w") as sys.stderr:
        _arm(moment)
        function()


def killed_at(moment: int, function: Callable[[], Any]) -> bool:
    """Run a function in a process that kills itself; False where it ended before the moment."""
    # Forked: importing torch anew takes seconds, and there are many moments.
    process = multiprocessing.get_context("fork").Process(target=_child, args=(moment, function))
    process.start()
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL), f"left with {process.exitcode}"
    return process.exitcode != 0
