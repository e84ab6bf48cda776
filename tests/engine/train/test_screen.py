"""What a training says on the screen, in a terminal and in a log file."""

import logging
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from engine.train.screen import HEADER, command_to_test, forecast
from tests.engine.train.test_stopping import LAUNCHER, RESUME
from tests.processes import ROOT, environment, python, run_here

EPOCH = re.compile(r" +(\d)/2 +0\.\d{4} +\S+e-\d\d +[\d.]+ +[\d:]+ +(?:-|[01]\.\d{4}) +\S+")


SETTINGS = ("--set", "N_EPOCHS=2", "--set", "NUM_WORKERS=2")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (59, "less than a minute"),
        (149, "about 2 min"),
        (3600, "about 1 h 0 min"),
        (359_999, "about 100 h 0 min"),
    ],
)
def test_the_forecast(seconds, told):
    assert forecast(seconds) == f"{told} left, not counting validation"


def test_a_log_file_has_plain_lines_one_for_each_epoch(tiny, tmp_path):
    file = tiny().file
    # Loader processes have nothing to say of their own.
    run = python(ROOT / "run_training.py", "--config", file, *SETTINGS, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "\r" not in run.stdout
    assert "\x1b" not in run.stdout
    # What random weights are good for is told as well.
    lines = [line for line in run.stdout.splitlines() if not line.startswith("warning: ")]
    assert lines[:6] == [
        f"loading PyTorch and {file}",
        f"training {file} into {tmp_path}/results",
        "device cpu, precision fp32",
        "18 training and 6 validation images",
        "epochs: 2 (N_EPOCHS); steps per epoch: 4 (4 images each); "
        "validation every 2 (EVAL_STEPSIZE)",
        "less than a minute left, not counting validation",
    ]
    assert lines[6] == HEADER
    assert [found[1] for line in lines[7:9] if (found := EPOCH.fullmatch(line))] == ["1", "2"]
    assert len(lines) == 12
    assert lines[9].startswith("threshold ")
    assert lines[10].startswith("trained: checkpoints, training.csv and curves.png are in ")
    assert lines[11].startswith("test it with: python run_test.py --config ")
    # tiny.ini names this run's own checkpoint to be tested.
    assert "CHECKPOINT_PATH" not in lines[11]


@pytest.mark.parametrize(
    ("tested", "added"),
    [
        ("results/checkpoints/last_ckpt.pth", False),
        ("results/checkpoints/best_ckpt.pth", False),
        ("released.pth", True),
    ],
)
def test_the_command_to_test_is_for_what_was_trained(
    tiny, tmp_path, monkeypatch, caplog, tested, added
):
    caplog.set_level(logging.INFO)
    config = tiny(f"CHECKPOINT_PATH={tmp_path / tested}")
    assert command_to_test(config, Path("x"), ["TRAINING.results_path=x", "SEED=1"]).endswith(
        "--set TRAINING.RESULTS_PATH=x --set TESTING.RESULTS_PATH=x/test --set SEED=1"
        " --set CHECKPOINT_PATH=x/checkpoints/last_ckpt.pth"
    )
    own_test = ["TESTING.results_path=y", "TRAINING.RESULTS_PATH=x"]
    assert "--set TRAINING.RESULTS_PATH=x --set TESTING.RESULTS_PATH=y --set CHECK" in (
        command_to_test(tiny("CHECKPOINT_PATH=other.pth"), Path("x"), own_test)
    )
    monkeypatch.setattr("engine.train.start.train", lambda *_, **__: tmp_path / "results")
    sets = ["--set", f"CHECKPOINT_PATH={tmp_path / tested}"]
    assert run_here(monkeypatch, "run_training.py", "--config", config.file, *sets) == 0
    own = f" --set CHECKPOINT_PATH={tmp_path}/results/checkpoints/last_ckpt.pth"
    (line,) = [each for each in caplog.messages if "test it with" in each]
    given = f" --set CHECKPOINT_PATH={tmp_path / tested}"
    assert line.endswith(f"{config.file}{own if added else given}")


def test_a_terminal_has_one_bar_and_ctrl_c_is_answered_in_one_line(tiny, tmp_path):
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 100))
    launcher = tmp_path / "slow.py"
    script = str(ROOT / "run_training.py")
    launcher.write_text(LAUNCHER.format(script=script), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(launcher), "--config", tiny().file, *SETTINGS],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
    )
    os.close(terminal)
    said, stopped = b"", False
    with suppress(OSError):  # how Linux says that nobody writes any more
        while part := os.read(master, 4096):
            said += part
            if b"less than a minute" in said and not stopped:
                stopped = True
                os.killpg(process.pid, signal.SIGINT)
    os.close(master)
    assert process.wait(60) == 130
    screen = said.decode()
    assert "epoch 1/2" in screen
    assert screen.splitlines()[-1] == RESUME
    assert "Traceback" not in screen
