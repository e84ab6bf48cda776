"""Two gloo processes on the CPU do what one does."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
# The two processes draw dropout masks of their own: without dropout they must agree with one.
LAUNCHER = """
import sys
from importlib import import_module
from torch import nn
nn.Dropout.forward = lambda self, values: values
sys.path.insert(0, {root!r})
from utils.errors import run_script
run_script(import_module({module!r}).main)
"""


def run(script: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = tmp_path / f"launch_{script}"
    launcher.write_text(LAUNCHER.format(root=str(ROOT), module=Path(script).stem))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(launcher), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=240,
        check=False,
    )


def column(path: Path, name: str) -> list[str]:
    with path.open(newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def train_and_test(tiny, tmp_path: Path, name: str, processes: int) -> Path:
    tiny()
    folder = tmp_path / name
    shared = ["--config", str(tmp_path / "tiny.ini"), "--set", f"DEVICES={processes}"]
    shared += ["--set", f"TRAINING.RESULTS_PATH={folder}", "--set", "N_EPOCHS=2"]
    shared += ["--set", f"CHECKPOINT_PATH={tmp_path}/one/checkpoints/last_ckpt.pth"]
    shared += ["--set", f"TESTING.RESULTS_PATH={folder}/test"]
    for script in ("run_training.py", "run_test.py"):
        result = run(script, tmp_path, *shared)
        assert result.returncode == 0, result.stderr
    return folder


def test_two_processes_give_the_losses_and_scores_of_one(tiny, tmp_path):
    one = train_and_test(tiny, tmp_path, "one", 1)
    two = train_and_test(tiny, tmp_path, "two", 2)
    for name in ("train_loss", "val_image_auroc", "val_pixel_auroc"):
        values = [
            [float(value) for value in column(folder / "training.csv", name) if value]
            for folder in (one, two)
        ]
        np.testing.assert_allclose(*values, rtol=0, atol=1e-5)
    # Seven test images on two processes: none twice, none dropped, the same order and bytes.
    assert column(two / "test" / "scores.csv", "path") == column(
        one / "test" / "scores.csv", "path"
    )
    scores = [
        [float(value) for value in column(folder / "test" / "scores.csv", "score")]
        for folder in (one, two)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-6)


def test_a_dying_process_ends_the_job_with_an_error(tiny, tmp_path):
    tiny()
    result = run(
        "run_training.py",
        tmp_path,
        "--config",
        str(tmp_path / "tiny.ini"),
        "--set",
        "DEVICES=2",
        "--set",
        "BATCH_SIZE_TRAIN=3",
    )
    assert result.returncode != 0
    assert "cannot be shared evenly by 2 processes" in result.stderr


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_equal_one_large_batch(tiny, tmp_path, accumulate):
    from engine.training import create_trainer

    losses = []
    for name, overrides in (
        ("whole", [f"BATCH_SIZE_TRAIN={4 * accumulate}"]),
        ("parts", [f"ACCUMULATE={accumulate}"]),
    ):
        trainer = create_trainer(
            tiny("N_EPOCHS=2", f"TRAINING.RESULTS_PATH={tmp_path / name}", *overrides)
        )
        for block in trainer.model.junction.blocks:
            block.projection[-1].p = 0.0
        trainer.run()
        losses.append(trainer.model.trained_state_dict())
    for name, tensor in losses[0].items():
        np.testing.assert_allclose(tensor, losses[1][name], atol=2e-5, err_msg=name)
