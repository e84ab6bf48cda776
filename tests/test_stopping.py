"""The commands themselves, stopped by signals as users and schedulers send them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.training import train
from tests.test_kill_moments import check_same_run

ROOT = Path(__file__).parent.parent
# Steps that take a while: a signal lands in the middle of the work, on any machine.
LAUNCHER = """
import signal, sys, time
sys.path.insert(0, {root!r})
from importlib import import_module
from engine.evaluation import Scorer
from models.criteria import WeightedCriteria
from utils.errors import run_script
score, loss = Scorer.score, WeightedCriteria.loss
Scorer.score = lambda *arguments: (time.sleep(0.5), score(*arguments))[1]
WeightedCriteria.loss = lambda *arguments: (time.sleep(0.3), loss(*arguments))[1]
# Commands that a script starts in the background are born deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
script = import_module({module!r})
run_script(script.main)
"""


class Command:
    """A command in a process group of its own, as a shell starts it."""

    def __init__(self, folder: Path, module: str, *arguments: str, slow: bool = True) -> None:
        launcher, self.log = folder / f"slow_{module}.py", folder / f"{module}.log"
        launcher.write_text(LAUNCHER.format(root=str(ROOT), module=module))
        file = str(launcher) if slow else str(ROOT / f"{module}.py")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, file, *arguments],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def wait_until(self, there: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not there():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - begun < 120
            time.sleep(0.05)

    def stop(self, number: int, *, group: bool) -> tuple[int, str]:
        """Send a signal; returns the exit code and the last line."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        code = self.process.wait(60)
        return code, self.said().strip().splitlines()[-1]

    def said(self) -> str:
        return self.log.read_text().replace("\r", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_training(tiny, tmp_path, number, workers):
    tiny()
    arguments = ["--config", str(tmp_path / "tiny.ini"), "--set", f"NUM_WORKERS={workers}"]
    folder = tmp_path / "results"
    whole = Command(tmp_path, "run_training", *arguments, slow=False)
    assert whole.process.wait(120) == 0, whole.said()
    unbroken = folder.rename(tmp_path / "unbroken")
    command = Command(tmp_path, "run_training", *arguments)
    command.wait_until(lambda: "| 1/4" in command.said().partition("epoch 2/4")[2])
    # All processes at once, as a terminal and schedulers do, or the main one alone.
    code, line = command.stop(number, group=workers > 0)
    assert code == 130
    assert line.startswith(f"stopped by {number.name}; ")
    assert " of 4 batches of the next one are saved in " in line
    assert line.endswith("training_state.pth: go on with --resume")
    assert "Traceback" not in command.said()
    resumed = Command(tmp_path, "run_training", *arguments, "--resume", slow=False)
    assert resumed.process.wait(120) == 0, resumed.said()
    check_same_run(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_testing(tiny, tmp_path, number):
    train(tiny("N_EPOCHS=1"))
    arguments = ["--config", str(tmp_path / "tiny.ini"), "--set", "NUM_WORKERS=2"]
    command = Command(tmp_path, "run_test", *arguments)
    command.wait_until(lambda: "0/7" in command.said())
    code, line = command.stop(number, group=True)
    assert (code, line) == (
        130,
        f"stopped by {number.name}; finished files are kept: give the same command again",
    )
    assert "Traceback" not in command.said()
    folder = tmp_path / "results" / "test"
    assert not (folder / "metrics.json").exists()
    again = Command(tmp_path, "run_test", *arguments, slow=False)
    assert again.process.wait(120) == 0, again.said()
    assert json.loads((folder / "metrics.json").read_text())["num_images"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_benchmark(tiny, tmp_path, number):
    tiny()
    output = tmp_path / "out"
    arguments = ["--configs", str(tmp_path / "tiny.ini"), "--seeds", "0", "1"]
    arguments += ["--output", str(output), "--set", "N_EPOCHS=3"]
    command = Command(tmp_path, "run_benchmark", *arguments, slow=False)
    command.wait_until((output / "tiny" / "seed1" / "training.csv").exists)
    finished = output / "tiny" / "seed0" / "test" / "metrics.json"
    before = finished.stat().st_mtime_ns
    code, line = command.stop(number, group=number == signal.SIGKILL)
    if number == signal.SIGKILL:
        assert code == -number
    else:
        assert code == 130
        assert line.endswith("give the same command again to go on")
    again = Command(tmp_path, "run_benchmark", *arguments, slow=False)
    assert again.process.wait(180) == 0, again.said()
    assert finished.stat().st_mtime_ns == before
    assert "tiny, seed 0: done before" in again.said()
    assert "tiny, seed 1: training goes on" in again.said()
    for seed in (0, 1):
        folder = output / "tiny" / f"seed{seed}"
        assert (folder / "training.csv").read_text().count("\n") == 1 + 3
        assert json.loads((folder / "test" / "metrics.json").read_text())["num_images"] == 7
    assert (output / "benchmark.csv").read_text().count("done") == 2


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        ("return 0", 0, ""),
        ("raise UserError('no such file')", 2, "error: no such file\n"),
        ("raise Interrupted('stopped; go on')", 130, "stopped; go on\n"),
        (
            "os.kill(os.getpid(), signal.SIGTERM)",
            130,
            "stopped by SIGTERM; finished files are kept",
        ),
    ],
)
def test_a_signal_at_the_very_end_changes_no_exit_code(outcome, code, said):
    script = f"""
import atexit, os, signal
from utils.errors import Interrupted, UserError, run_script
def main():
    {outcome}
@atexit.register
def stop():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
signal.signal(signal.SIGINT, signal.default_int_handler)
run_script(main)
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == code
    assert result.stderr.startswith(said)
    assert "Traceback" not in result.stderr
