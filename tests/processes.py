"""Python programs: each in a process of its own, or in this one, which has imported torch."""

import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def environment(**changes: str) -> dict[str, str]:
    """In which a process of one thread finds our modules, wherever it starts."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | changes


def python(
    *arguments: object, cwd: Path = ROOT, timeout: float | None = 300, **changes: str
) -> subprocess.CompletedProcess[str]:
    """What ``python`` gives with these arguments, in a changed environment."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_here(monkeypatch: pytest.MonkeyPatch, script: object, *arguments: object) -> object:
    """Run a script in this process; gives its exit code.

    What it logs reaches ``caplog`` and not the screen.
    """
    path = str(ROOT / str(script))
    monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
    monkeypatch.setattr("utils.console.setup_logging", logging.getLogger)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(path, run_name="__main__")
    return ended.value.code
