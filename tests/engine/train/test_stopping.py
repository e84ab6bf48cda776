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

from tests.engine.train.test_training import check_same_training
from tests.processes import ROOT, environment, python

# Steps that take a while: a signal lands in the middle of the work, on any machine.
LAUNCHER = """
import runpy, signal, sys, time
from engine.evaluate.scorer import Scorer
from models.criteria import WeightedCriteria
score, loss = Scorer.score, WeightedCriteria.loss
Scorer.score = lambda *arguments: (time.sleep(0.5), score(*arguments))[1]
WeightedCriteria.loss = lambda *arguments: (time.sleep(0.3), loss(*arguments))[1]
# Commands that a script starts in the background are born deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = {script!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# What Ctrl-C is answered with.
AGAIN = "stopped by Ctrl-C; finished files are kept; run the same command again to continue"
RESUME = (
    "stopped by Ctrl-C; continue with --resume; if no epoch was finished, run the same command "
    "again"
)


class Command:
    """A command in a process group of its own, as a shell starts it."""

    def __init__(self, folder: Path, module: str, *arguments: str, slow: bool = True) -> None:
        launcher, self.log = folder / f"slow_{module}.py", folder / f"{module}.log"
        script = str(ROOT / f"{module}.py")
        launcher.write_text(LAUNCHER.format(script=script))
        file = str(launcher) if slow else script
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, file, *arguments],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment(),
                start_new_session=True,
            )

    def wait_until(self, there: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not there():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - begun < 120
            time.sleep(0.05)

    def check_stopped_by(self, number: int, told: str) -> None:
        """Send a signal to all processes, as terminals and schedulers do; Ctrl-C is answered."""
        os.killpg(self.process.pid, number)
        assert self.process.wait(60) == (130 if number == signal.SIGINT else -number)
        assert "Traceback" not in self.said()
        if number == signal.SIGINT:
            assert self.said().strip().splitlines()[-1] == told

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
    command.wait_until(lambda: " 1/4 " in command.said())
    command.check_stopped_by(number, RESUME)
    resumed = Command(tmp_path, "run_training", *arguments, "--resume", slow=False)
    assert resumed.process.wait(120) == 0, resumed.said()
    check_same_training(folder, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_testing(trained, tmp_path, number):
    arguments = ["--config", str(tmp_path / "tiny.ini"), "--set", "NUM_WORKERS=2"]
    command = Command(tmp_path, "run_test", *arguments)
    command.wait_until(lambda: "device cpu" in command.said())
    command.check_stopped_by(number, AGAIN)
    folder = tmp_path / "results" / "test"
    assert not (folder / "metrics.json").exists()
    again = Command(tmp_path, "run_test", *arguments, slow=False)
    assert again.process.wait(120) == 0, again.said()
    assert json.loads((folder / "metrics.json").read_text())["num_images"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_benchmark(tiny, tmp_path, number):
    tiny()
    output = tmp_path / "out"
    arguments = ["--configs", str(tmp_path / "tiny.ini"), "--seeds", "0", "1"]
    arguments += ["--output", str(output), "--set", "N_EPOCHS=3"]
    command = Command(tmp_path, "run_benchmark", *arguments, slow=False)
    command.wait_until((output / "tiny" / "seed1" / "training.csv").exists)
    finished = output / "tiny" / "seed0" / "test" / "metrics.json"
    before = finished.stat().st_mtime_ns
    command.check_stopped_by(number, AGAIN)
    again = Command(tmp_path, "run_benchmark", *arguments, slow=False)
    assert again.process.wait(180) == 0, again.said()
    assert finished.stat().st_mtime_ns == before
    assert "tiny, seed 0: already done" in again.said()
    assert "tiny, seed 1: training continues" in again.said()
    for seed in (0, 1):
        folder = output / "tiny" / f"seed{seed}"
        assert (folder / "training.csv").read_text().count("\n") == 1 + 3
        assert json.loads((folder / "test" / "metrics.json").read_text())["num_images"] == 7
    assert (output / "benchmark.csv").read_text().count("done") == 2


# What a script's main does, the exit code and what is said.
ENDINGS = [
    ("return 0", 0, ""),
    ("return 1", 1, ""),
    ("raise UserError('no such file')", 2, "error: no such file\n"),
    ("raise UserError('one\\ntwo')", 2, "one\ntwo\n"),
    # Twice: the second one comes while the process ends.
    ("atexit.register(os.kill, os.getpid(), 2); os.kill(os.getpid(), 2)", 130, f"{AGAIN}\n"),
    # Torch's writer covers it with an error of its own.
    ("import torch; torch.save({'x': torch.ones(3)}, Stopping())", 130, f"{AGAIN}\n"),
    (
        "raise RuntimeError('[gloo/transport/tcp/pair.cc:534] Connection closed by peer')",
        2,
        "error: another process of this run died; its own message says why (if it was killed, "
        "memory probably ran out). Finished epochs are saved: continue with --resume\n",
    ),
]


@pytest.mark.parametrize(("outcome", "code", "said"), ENDINGS, ids=range(len(ENDINGS)))
def test_each_ending_is_one_line(tmp_path, outcome, code, said):
    script = f"""
import atexit, io, os, signal
from utils.errors import UserError, run_script
class Stopping(io.BytesIO):
    def write(self, data):
        raise KeyboardInterrupt
def main():
    {outcome}
signal.signal(signal.SIGINT, signal.default_int_handler)
run_script(main)
"""
    result = python("-c", script, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (code, said)
