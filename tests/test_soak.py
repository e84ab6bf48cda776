"""Training killed at random moments, again and again (make soak)."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_kill_moments import check_same_run, check_that_files_load

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("QFAE_KILLS", "50"))
EPOCHS = 40


def start(config: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a training run, with output to a log beside the results."""
    command = [sys.executable, "run_training.py", "--config", str(config), *arguments]
    overrides = [f"TRAINING.RESULTS_PATH={folder}", f"N_EPOCHS={EPOCHS}", "EVAL_STEPSIZE=3"]
    # A checkpoint elsewhere: no calibration at the end, which is not what is tested here.
    overrides += ["CHECKPOINT_PATH=elsewhere.pth"]
    for override in overrides:
        command += ["--set", override]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)


def seconds_until(there: Path, process: subprocess.Popen[bytes]) -> float:
    begun = time.monotonic()
    while not there.exists():
        assert process.poll() is None
        time.sleep(0.02)
    return time.monotonic() - begun


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
    moments, kills, finished, epochs, with_progress = random.Random(0), 0, 0, 0, 0
    begun = time.monotonic()
    while kills < KILLS:
        has_state = (broken / "checkpoints" / "training_state.pth").exists()
        process = start(config, broken, "--resume" if has_state else "--overwrite")
        time.sleep(moments.uniform(0.5 * starting, starting + 8 * an_epoch))
        process.kill()
        if process.wait() == 0:
            # It was faster than the kill: one run is survived, the next one begins.
            check_same_run(broken, unbroken)
            shutil.rmtree(broken)
            finished += 1
            epochs = 0
            continue
        assert process.returncode == -signal.SIGKILL, broken.with_suffix(".log").read_text()[-2000:]
        kills += 1
        reached = check_that_files_load(broken)
        assert reached >= epochs
        with_progress += reached > epochs
        epochs = reached
    seconds = time.monotonic() - begun
    print(
        f"\n{kills} kills in {seconds:.0f} s, {with_progress} after an epoch, {finished + 1} runs"
    )
    assert with_progress > KILLS / 10
    has_state = (broken / "checkpoints" / "training_state.pth").exists()
    assert start(config, broken, "--resume" if has_state else "--overwrite").wait() == 0
    check_same_run(broken, unbroken)
