"""Two gloo processes on the CPU do what one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from engine.testing.test import test as run_test
from engine.train.start import create_trainer, train
from tests.conftest import read_csv
from tests.processes import ROOT, environment, python
from utils.errors import UserError

# The two processes draw dropout masks of their own: without dropout they must agree with one.
# Training and test in one launch: each start of two processes takes ten seconds.
LAUNCHER = """
import sys
from pathlib import Path
from torch import nn
nn.Dropout.forward = lambda self, values: values
from utils.console import setup_logging
setup_logging().info("this is the first line")
from engine.testing.test import test
from engine.train.start import train
from utils.config.load import load_config
from utils.errors import run_script
def main():
    config = load_config(sys.argv[1], sys.argv[2:])
    state = Path(config.training.results_path, "checkpoints", "training_state.pth")
    train(config, resume=state.exists())
    test(config)
run_script(main)
"""


def start(tmp_path: Path, *overrides: str) -> subprocess.Popen[str]:
    launcher = tmp_path / "launch.py"
    launcher.write_text(LAUNCHER)
    return subprocess.Popen(
        [sys.executable, str(launcher), str(tmp_path / "tiny.ini"), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )


def column(path: Path, name: str) -> list[str]:
    return [row[name] for row in read_csv(path)]


# Its rotary embeddings are buffers, which DDP would broadcast in each forward pass.
WITH_BUFFERS = ["MODEL_NAME=eva02_tiny_patch14_224", "FINAL_PROJ_IN_FEATURES=192"]


@pytest.mark.parametrize(
    ("backbone", "num_test_images"),
    [
        pytest.param([], 7, id="plain", marks=pytest.mark.slow),
        pytest.param(WITH_BUFFERS, 5, id="buffers"),
    ],
)
def test_two_processes_give_the_losses_and_scores_of_one(
    tiny, tmp_path, monkeypatch, backbone, num_test_images
):
    def overrides(name: str, *others: str) -> list[str]:
        folder = tmp_path / name
        # Batches of one: what else lies in a batch decides an image's last digits.
        shared = ["N_EPOCHS=2", "TESTING.BATCH_SIZE_TEST=1", f"TRAINING.RESULTS_PATH={folder}"]
        shared += [f"TESTING.RESULTS_PATH={folder}/test", f"MAX_SAMPLES_TEST={num_test_images}"]
        shared += backbone
        return [*shared, f"CHECKPOINT_PATH={tmp_path}/one/checkpoints/last_ckpt.pth", *others]

    one, two = tmp_path / "one", tmp_path / "two"
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, values: values)
    config = tiny(*overrides("one"))
    train(config)
    run_test(config)
    process = start(tmp_path, *overrides("two", "DEVICES=2"))
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    for name in ("train_loss", "val_image_auroc", "val_pixel_auroc"):
        values = [
            [float(value) for value in column(folder / "training.csv", name) if value]
            for folder in (one, two)
        ]
        np.testing.assert_allclose(*values, rtol=0, atol=1e-5)
    # Each line is said once, and none of them by the libraries that connect the processes.
    lines = [line for line in said.splitlines() if line.strip()]
    assert lines[0] == "this is the first line"
    assert len(lines) == len(set(lines)), said
    assert "distributed_backend" not in said
    assert "GLOBAL_RANK" not in said
    # An odd number of images on two processes: none twice, none dropped, the same order and bytes.
    assert len(column(two / "test" / "scores.csv", "path")) == num_test_images
    tables = [(folder / "test" / "scores.csv").read_bytes() for folder in (one, two)]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_an_error_in_two_processes_ends_the_job(tiny, tmp_path):
    tiny()
    process = start(tmp_path, "DEVICES=2", "BATCH_SIZE_TRAIN=3")
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "is not divisible by the 2 processes" in said


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in text.split()]


def is_alive(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def wait_until(reached, seconds: float) -> None:
    begun = time.monotonic()
    while not reached():
        assert time.monotonic() - begun < seconds
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_ends_the_job_soon(tiny, tmp_path, first, number):
    tiny()
    process = start(tmp_path, "DEVICES=2", "N_EPOCHS=1000", "EVAL_STEPSIZE=1000")
    wait_until((tmp_path / "results" / "training.csv").exists, 120)
    (other,) = children_of(process.pid)
    os.kill(process.pid if first else other, number)
    said, _ = process.communicate(timeout=60)
    wait_until(lambda: not is_alive(other), 60)
    assert process.returncode == (-number if first else 2)
    assert "error: another process of this run died" in said
    assert "Traceback" not in said


def test_accumulated_batches_equal_one_large_batch(tiny, tmp_path):
    losses = []
    for override in ("BATCH_SIZE_TRAIN=8", "ACCUMULATE=2"):
        folder = f"TRAINING.RESULTS_PATH={tmp_path / override}"
        trainer = create_trainer(tiny("N_EPOCHS=2", folder, override))
        for block in trainer.model.junction.blocks:
            block.projection[-1].p = 0.0
        trainer.run()
        losses.append(trainer.model.trained_state_dict())
    for name, tensor in losses[0].items():
        np.testing.assert_allclose(tensor, losses[1][name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TORCHELASTIC_RUN_ID": "run", "WORLD_SIZE": "2"}, "torchrun started 2"),
        ({"LT_CLI_USED": "1", "LT_DEVICES": "2"}, "--devices=2"),
    ],
)
def test_another_number_of_processes_than_were_started_is_an_error(
    tiny, monkeypatch, variables, said
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"DEVICES = 1.*{said}"):
        train(tiny())


# Starts as many tasks as the job has, with the variables that Slurm gives each of them.
SRUN = """#!/bin/bash
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
  tasks+=($!)
done
for task in "${tasks[@]}"; do wait "$task" || exit; done
"""


@pytest.mark.slow
def test_the_script_for_slurm_trains_and_tests(tiny, tmp_path):
    tiny()
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    numbers = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "JOB_NUM_NODES": 1, "NNODES": 1}
    numbers |= {"CPUS_PER_TASK": 1, "JOB_ID": 77}
    job = {f"SLURM_{name}": str(value) for name, value in numbers.items()}
    job |= {"SLURM_JOB_NAME": "qfae", "SLURM_NODELIST": "localhost"}
    done = subprocess.run(
        ["bash", "docs/train.slurm", str(tmp_path / "tiny.ini")],
        capture_output=True,
        text=True,
        env=environment(**job, PATH=f"{tmp_path}:{os.environ['PATH']}"),
        cwd=ROOT,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert column(tmp_path / "results" / "training.csv", "epoch") == ["1", "2", "3", "4"]
    assert (tmp_path / "results" / "test" / "metrics.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node", "2"],
        ["lightning_fabric.cli", "--devices", "2", "--accelerator", "cpu"],
    ],
    ids=["torchrun", "fabric run"],
)
def test_other_launchers_start_one_run(tiny, tmp_path, launcher):
    tiny()
    script = ["run_training.py", "--config", tmp_path / "tiny.ini"]
    done = python("-m", *launcher, *script, "--set", "DEVICES=2")
    assert done.returncode == 0, done.stderr
    assert column(tmp_path / "results" / "training.csv", "epoch") == ["1", "2", "3", "4"]
