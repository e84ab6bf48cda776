"""Processes that kill themselves at a chosen moment while they write a file."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.summary.writer.record_writer import RecordWriter


def _arm(moment: int) -> None:
    """Make each step of writing a file a moment, the chosen one the last.

    For each file: half of its bytes are written, all are written but not yet on the disk, it is on
    the disk but not yet renamed, it is renamed. For TensorBoard: half of a record.
    """
    fsync, replace, write = os.fsync, Path.replace, RecordWriter.write
    passed = 0

    def tick(last_words: Callable[[], Any] = lambda: None) -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            last_words()
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly_fsync(descriptor: int) -> None:
        tick(lambda: os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2))
        tick()
        fsync(descriptor)

    def deadly_replace(self: Path, target: Path) -> Path:
        tick()
        result = replace(self, target)
        tick()
        return result

    def deadly_record(self: Any, data: bytes) -> None:
        half = data[: len(data) // 2]
        tick(lambda: (self._writer.write(half), self._writer.flush()))
        write(self, data)

    os.fsync = deadly_fsync
    Path.replace = deadly_replace
    RecordWriter.write = deadly_record


def _child(moment: int, function: Callable[[], Any], said: str) -> None:
    with Path(said).open("w") as sys.stdout, Path(said).open("a") as sys.stderr:
        _arm(moment)
        function()


def killed_at(moment: int, function: Callable[[], Any]) -> bool:
    """Run a function in a process that kills itself; False where it ended before the moment."""
    # Forked: importing torch anew takes seconds, and there are many moments.
    with tempfile.NamedTemporaryFile() as said:
        arguments = (moment, function, said.name)
        process = multiprocessing.get_context("fork").Process(target=_child, args=arguments)
        process.start()
        process.join(120)
        text = Path(said.name).read_text()
    assert process.exitcode in (0, -signal.SIGKILL), f"left with {process.exitcode}: {text}"
    return process.exitcode != 0
