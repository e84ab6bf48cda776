"""utils.memory: what is left, and what goes back."""

from __future__ import annotations

import ctypes
import resource
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from utils import memory


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
    memory.return_freed_memory()
    answer.send((before, _resident(), last.sum().item()))


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc"
)
def test_freed_memory_goes_back_to_the_system() -> None:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_freed, args=(theirs,))
    process.start()
    # A death is an end of file then, and no hang.
    theirs.close()
    before, after, _ = ours.recv()
    process.join()
    assert before - after > 50e6
