"""A training killed at random moments, again and again, and resumed each time (make soak)."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.engine.train.test_kill_moments import check_that_files_load
from tests.engine.train.test_training import check_same_training
from tests.processes import ROOT, environment

KILLS = int(os.environ.get("QFAE_KILLS", "30"))
EPOCHS = 40


def start(config: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a training run, with output to a log beside the results."""
    command = [sys.executable, "run_training.py", "--config", str(config), *arguments]
    overrides = [f"TRAINING.RESULTS_PATH={folder}", f"N_EPOCHS={EPOCHS}", "EVAL_STEPSIZE=3"]
    # A checkpoint elsewhere: no calibration at the end, which is not what is tested here.
    overrides += ["CHECKPOINT_PATH=elsewhere.pth"]
    for override in overrides:
        command += ["--set", override]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=environment(), start_new_session=True
        )


def seconds_until(there: Path, process: subprocess.Popen[bytes]) -> float:
    begun = time.monotonic()
    while not there.exists():
        assert process.poll() is None
        time.sleep(0.02)
    return time.monotonic() - begun


def epochs_in_table(folder: Path) -> int:
    """Epochs that the table shows: it is written last."""
    table = folder / "training.csv"
    return table.read_text().count("\n") - 1 if table.exists() else 0


def finished_epochs(folder: Path) -> int:
    path = folder / "checkpoints" / "training_state.pth"
    return torch.load(path, weights_only=True)["epoch"] if path.exists() else 0


@pytest.mark.slow
def test_kills_at_random_moments_lose_at_most_the_epoch_in_flight(tiny, tmp_path):
    tiny()
    config = tmp_path / "tiny.ini"
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    process = start(config, unbroken)
    starting = seconds_until(unbroken / "training.csv", process)
    begun = time.monotonic()
    assert process.wait() == 0
    an_epoch = (time.monotonic() - begun) / (EPOCHS - 1)
    # Now and then while it starts; mostly within its first epochs.
    moments, kills, runs, done, with_progress = random.Random(0), 0, 1, 0, 0
    begun = time.monotonic()

    def go_on() -> subprocess.Popen[bytes]:
        return start(config, broken, "--resume" if done else "--overwrite")

    while kills < KILLS:
        process = go_on()
        time.sleep(moments.uniform(0.5 * starting, starting + 8 * an_epoch))
        seen = epochs_in_table(broken)
        os.killpg(process.pid, signal.SIGKILL)
        code = process.wait(60)
        if code == 0:
            # It was faster than the signal: one run is survived, the next one begins.
            check_same_training(broken, unbroken)
            shutil.rmtree(broken)
            runs, done = runs + 1, 0
            continue
        log = broken.with_suffix(".log").read_text()
        assert code == -signal.SIGKILL, log[-2000:]
        assert "Traceback" not in log
        kills += 1
        check_that_files_load(broken)
        reached = finished_epochs(broken)
        # All that was finished before the kill is there after it.
        assert reached >= max(done, seen)
        with_progress += reached > done
        done = reached
    seconds = time.monotonic() - begun
    print(f"\n{kills} kills in {seconds:.0f} s, {with_progress} after progress, {runs} runs")
    assert with_progress > KILLS / 10
    assert go_on().wait() == 0
    check_same_training(broken, unbroken)
