"""Training killed at random moments, again and again (make soak)."""

import csv
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("QFAE_KILLS", "50"))
EPOCHS = 60


def start(config: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a training run, with output to a log beside the results."""
    log = folder.with_suffix(".log").open("ab")
    command = [sys.executable, "run_training.py", "--config", str(config), *arguments]
    overrides = [f"TRAINING.RESULTS_PATH={folder}", f"N_EPOCHS={EPOCHS}", "EVAL_STEPSIZE=3"]
    # A checkpoint elsewhere: no calibration at the end, which is not what is tested here.
    overrides += ["CHECKPOINT_PATH=elsewhere.pth"]
    for override in overrides:
        command += ["--set", override]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)


def check_files(folder: Path) -> int:
    """Every file of a killed run loads; returns the number of finished epochs."""
    state_path = folder / "checkpoints" / "training_state.pth"
    if not state_path.exists():
        return 0
    state = torch.load(state_path, weights_only=True)
    torch.load(folder / "checkpoints" / "last_ckpt.pth", weights_only=True)
    table = folder / "training.csv"
    rows = list(csv.DictReader(table.open(newline=""))) if table.exists() else []
    epochs = [int(row["epoch"]) for row in rows]
    assert epochs == list(range(1, len(epochs) + 1))
    # The state is written before the table: a kill between the two leaves the table one behind.
    assert state["epoch"] - len(epochs) in (0, 1)
    return state["epoch"]


@pytest.mark.slow
def test_kills_at_random_moments_lose_at_most_the_epoch_in_flight(tiny, tmp_path):
    tiny()
    config = tmp_path / "tiny.ini"
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert start(config, unbroken).wait() == 0
    begun = time.monotonic()
    moments, kills, epochs = random.Random(0), 0, 0
    arguments = ["--overwrite"]
    while True:
        process = start(config, broken, *arguments)
        if kills < KILLS:
            time.sleep(moments.uniform(1.0, 9.0))
            process.kill()
            kills += process.wait() != 0
        else:
            assert process.wait() == 0, broken.with_suffix(".log").read_text()[-2000:]
        reached = check_files(broken)
        assert reached >= epochs
        epochs = reached
        has_state = (broken / "checkpoints" / "training_state.pth").exists()
        arguments = ["--resume"] if has_state else ["--overwrite"]
        if process.returncode == 0:
            break
    print(f"{kills} kills in {time.monotonic() - begun:.0f} s")
    expected = torch.load(unbroken / "checkpoints" / "last_ckpt.pth", weights_only=True)
    found = torch.load(broken / "checkpoints" / "last_ckpt.pth", weights_only=True)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert kills > 0
