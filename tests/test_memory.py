"""utils.memory: what is left, and what goes back."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from utils import memory

needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc"
)


def test_limits_of_containers_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.available_memory()
    assert whole is not None
    inner = tmp_path / "job/step"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, "5000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("3000\n")
        (folder / "memory.stat").write_text("anon 10\ninactive_file 700\n")
    monkeypatch.setattr(memory, "_own_groups", lambda: [inner, inner.parent, tmp_path])
    assert memory.available_memory() == 5000 - 3000 + 700


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def _freed(answer: Connection) -> None:
    """Bytes resident before and after, where a small piece on top keeps much that is free."""
    # Pieces below glibc's threshold for asking the system apart, so that they share one area.
    pieces = [torch.ones(16 * 1024) for _ in range(1000)]  # 64 MB
    last = pieces.pop()
    pieces.clear()
    before = _resident()
    memory.settle_memory(keep=False)
    answer.send((before, _resident(), last.sum().item()))


def _pages_fetched(answer: Connection) -> None:
    """Pages that each of several large tensors takes from the system, the ones before freed."""
    memory.settle_memory(keep=True)
    faults = []
    # Small remainders of the first few are held back, so that these do not fit where they were.
    for step in range(40):
        if step == 20:
            memory.settle_memory(keep=False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(25_000_000)  # 100 MB
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    answer.send(faults)


def _answer_of(function: Callable[[Connection], None]) -> Any:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=function, args=(theirs,))
    process.start()
    # A death is an end of file then, and no hang.
    theirs.close()
    answer = ours.recv()
    process.join()
    return answer


@needs_glibc
def test_freed_memory_is_kept_for_the_next_step() -> None:
    faults = _answer_of(_pages_fetched)
    assert faults[0] > 100 * faults[19]
    # And no longer once that is taken back.
    assert faults[39] > faults[0] / 2


@needs_glibc
def test_freed_memory_goes_back_to_the_system() -> None:
    before, after, _ = _answer_of(_freed)
    assert before - after > 50e6
