"""Processes killed at each single step of writing each single file (make soak)."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch

from engine.testing.test import test as run_test
from engine.train.start import train
from tests.engine.conftest import path_of_calibration
from tests.engine.train.test_training import check_same_training, event_steps, read_table, weights
from tests.killing import killed_at
from utils.config.load import Config

NEVER = 1_000_000


def check_that_files_load(folder: Path) -> int:
    """Every file of a killed training loads; returns the number of finished epochs."""
    for name in ("best_ckpt.pth", "last_ckpt.pth"):
        if (folder / "checkpoints" / name).exists():
            weights(folder, name)
    state_path = folder / "checkpoints" / "training_state.pth"
    if not state_path.exists():
        assert not (folder / "training.csv").exists()
        return 0
    state = torch.load(state_path, weights_only=True)
    weights(folder)
    epochs = [int(row["epoch"]) for row in read_table(folder)] if state["epoch"] > 1 else []
    assert epochs == list(range(1, len(epochs) + 1))
    # The state is written before the table: a kill between the two leaves the table one behind.
    assert state["epoch"] <= 1 or state["epoch"] - len(epochs) in (0, 1)
    return state["epoch"]


@pytest.mark.slow
def test_a_training_killed_at_each_step_of_each_file(tiny, tmp_path):
    """Each moment in a folder of its own, so that one later run has to make up for it."""
    overrides = ["N_EPOCHS=2", "EVAL_STEPSIZE=1"]
    unbroken = train(tiny(*overrides, f"RESULTS_PATH={tmp_path / 'unbroken'}"))
    steps = event_steps(unbroken)
    assert len(steps) == len(set(steps)) > 2 * 10
    ended_in = []
    for moment in itertools.count(1):
        broken = tmp_path / f"broken{moment}"
        config = tiny(*overrides, f"RESULTS_PATH={broken}")
        if not killed_at(moment, lambda config=config: train(config)):
            break
        epochs = check_that_files_load(broken)
        ended_in.append(epochs)
        go_on = {"resume": True} if epochs else {"overwrite": True}
        # In a later process: within one second, TensorBoard orders files by these.
        assert not killed_at(NEVER, lambda config=config, how=go_on: train(config, **how))
        check_same_training(broken, unbroken)
        shutil.rmtree(broken)
    print(f"\n{len(ended_in)} kills")
    # Five files and a dozen records per epoch; what was reached is not done again.
    assert len(ended_in) > 60
    assert ended_in == sorted(ended_in)
    assert set(ended_in) == {0, 1, 2}


def files_of_test(config: Config) -> dict[str, bytes]:
    """The files of a test, less the line of the report that says when it was made."""
    found = {file.name: file.read_bytes() for file in config.testing.results_path.iterdir()}
    if "report.html" in found:
        lines = found["report.html"].splitlines()
        found["report.html"] = b"\n".join(line for line in lines if b'class="made"' not in line)
    return found


@pytest.mark.slow
def test_a_test_killed_at_each_step_of_each_file(uncalibrated):
    config = uncalibrated()
    stored, folder = path_of_calibration(config.testing), config.testing.results_path
    run_test(config)
    expected, calibration = files_of_test(config), stored.read_bytes()
    kills = 0
    for moment in itertools.count(1):
        shutil.rmtree(folder)
        folder.mkdir()
        stored.unlink()
        if not killed_at(moment, lambda: run_test(config)):
            break
        kills += 1
        assert not stored.exists() or stored.read_bytes() == calibration
        # Whole, or not there; what was being written has a name of its own.
        for name, content in files_of_test(config).items():
            assert name.startswith(".tmp-") or content == expected[name]
        run_test(config)
        found = files_of_test(config)
        assert {name: found[name] for name in expected} == expected
    print(f"\n{kills} kills")
    # Calibration, config, scores, three pictures, report, metrics: four moments each.
    assert kills == 8 * 4
