"""The benchmark over configs and seeds: skipping, going on, failures, signals, the table."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest

from engine.benchmark import runs as module
from engine.benchmark.runs import benchmark
from engine.benchmark.table import PUBLISHED
from engine.hub_files import pinned
from tests.conftest import read_csv
from tests.processes import ROOT, run_here
from utils.config.load import ini_text, load_config
from utils.errors import UserError
from utils.files import write_text

SHORT = ["N_EPOCHS=1", "EXPERIMENT_NAME=Brain_AD"]
# Stands in for run_training.py and run_test.py where only processes matter.
STUB = """
import pathlib, signal, sys, time
settings = dict(each.split("=", 1) for each in sys.argv if "=" in each)
folder = pathlib.Path(settings["TRAINING.RESULTS_PATH"])
state = folder / "checkpoints" / "training_state.pth"
state.parent.mkdir(parents=True, exist_ok=True)
state.touch()
print("arguments:", *sys.argv[1:])
"""
WAITS = """
print("ready")
time.sleep(60)
"""


@pytest.fixture
def in_process(monkeypatch):
    """The scripts run in this process: importing torch anew takes seconds."""
    calls = []

    def run_child(command, log):
        calls.append([Path(command[1]).name, *command[2:]])
        code = run_here(monkeypatch, *command[1:])
        log.write_text(f"it left with {code}\n")
        return code

    monkeypatch.setattr(module, "run_child", run_child)
    return calls


@pytest.fixture
def stubs(monkeypatch, tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    for name in ("run_training.py", "run_test.py"):
        (folder / name).write_text(STUB)
    monkeypatch.setattr(module, "SCRIPTS", folder)
    return folder


def table(output: Path) -> list[dict[str, str]]:
    return read_csv(output / "benchmark.csv")


def markdown_row(output: Path, config: str) -> dict[str, str]:
    lines = (output / "benchmark.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (row,) = [row for row in cells if row[0] == config]
    return dict(zip(cells[0], row, strict=True))


def test_two_seeds_and_a_config_that_fails(tiny, tmp_path, in_process, capsys, monkeypatch):
    good, bad, output = Path(tiny().file), tmp_path / "bad.ini", tmp_path / "out"
    bad.write_text(good.read_text() + "JUNCTION_DEPTH = 3\n")
    failures = benchmark([bad, good], [0, 1], output=output, overrides=SHORT)

    assert set(failures) == {"bad, seed 0", "bad, seed 1"}
    assert "JUNCTION_DEPTH" in failures["bad, seed 0"]
    assert "failed: bad, seed 1" in capsys.readouterr().err
    assert [call[0] for call in in_process] == ["run_training.py", "run_test.py"] * 2
    rows = table(output)
    assert [row["state"] for row in rows] == ["failed", "failed", "done", "done"]
    assert [row["seed"] for row in rows] == ["0", "1"] * 2
    folders = [output / "tiny" / f"seed{seed}" for seed in (0, 1)]
    metrics = [json.loads((each / "test" / "metrics.json").read_text()) for each in folders]
    assert [each["seed"] for each in metrics] == [0, 1]
    for row, expected in zip(rows[2:], metrics, strict=True):
        for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro"):
            assert float(row[name]) == expected[name]
    assert load_config(folders[1] / "config.ini").training.seed == 1

    row = markdown_row(output, "tiny")
    values = [100 * each["pixel_auroc"] for each in metrics]
    assert row["pixel AUROC"] == f"{mean(values):.2f} ± {stdev(values):.2f}"
    aurocs = np.array([100 * each["image_auroc"] for each in metrics])
    bounds = [each["intervals_95"]["image_auroc"] for each in metrics]
    of_images = 100 * np.mean([(high - low) / 2 for low, high in bounds])
    # Of two runs, Student's t is 12.7: two seeds say little.
    of_seeds = 12.7062 * aurocs.std(ddof=1) / np.sqrt(2)
    half = np.sqrt(of_images**2 + of_seeds**2)
    low, high = max(aurocs.mean() - half, 0), min(aurocs.mean() + half, 100)
    assert row["pooled 95 % interval"] == f"{low:.1f} to {high:.1f}"
    assert markdown_row(output, "bad")["pooled 95 % interval"] == "–"
    assert (row["runs"], row["QFAE, paper"], row["PatchCore"]) == ("2 of 2", "94.3", "91.65")
    assert markdown_row(output, "bad")["image AUROC"] == "–"
    assert "One seed" not in (output / "benchmark.md").read_text()

    before = [path.stat().st_mtime_ns for path in output.glob("tiny/*/test/metrics.json")]
    assert benchmark([good], [1, 0], output=output, overrides=SHORT) == {}
    assert len(in_process) == 4
    after = [path.stat().st_mtime_ns for path in output.glob("tiny/*/test/metrics.json")]
    assert after == before

    monkeypatch.chdir(tmp_path)
    own = [*SHORT, "EXPERIMENT_NAME=mine"]
    assert benchmark([good], [0], output=Path("own"), overrides=own) == {}
    assert list(markdown_row(Path("own"), "tiny"))[-1] == "AUPRO"
    assert "Quoted" not in Path("own/benchmark.md").read_text()
    del in_process[4:]

    elsewhere = [*SHORT, "NUM_NODES=1", "DEVICES=2"]
    assert benchmark([good], [0], output=Path("out"), overrides=elsewhere) == {}
    assert len(in_process) == 4

    failures = benchmark([good], [0], output=output, overrides=["N_EPOCHS=1", "LR=1e-4"])
    assert "LR: was '0.001', is '0.0001'" in failures["tiny, seed 0"]
    assert [row["state"] for row in table(output)] == ["failed", "done"]


def test_training_that_was_cut_short_is_resumed(tiny, tmp_path, in_process):
    output = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    cut = ["N_EPOCHS=2", f"TEST_DATA_PATH={tmp_path / 'empty'}"]
    failures = benchmark([Path(tiny().file)], [3], output=output, overrides=cut)
    assert failures == {"tiny, seed 3": "run_test.py exited with code 2: it left with 2"}
    assert benchmark([Path(tiny().file)], [3], output=output, overrides=["N_EPOCHS=2"]) == {}
    assert [call[0] for call in in_process] == ["run_training.py", "run_test.py"] * 2
    assert ["--resume" in call for call in in_process] == [False, False, True, False]
    assert "One seed gives no spread" in (output / "benchmark.md").read_text()
    rows = read_csv(output / "tiny" / "seed3" / "training.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_a_run_that_crashes_does_not_end_the_others(tiny, tmp_path, stubs):
    output = tmp_path / "out"
    crash = "import os\nif 'SEED=0' in sys.argv: os.kill(os.getpid(), signal.SIGKILL)\n"
    (stubs / "run_training.py").write_text(STUB + crash)
    failures = benchmark([Path(tiny().file)], [0, 1], output=output)
    assert "run_training.py was killed by SIGKILL: arguments: --config" in failures["tiny, seed 0"]
    assert "run_test.py wrote no" in failures["tiny, seed 1"]
    log = (output / "tiny" / "seed1" / "log.txt").read_text()
    assert log.count("arguments: --config") == 2
    assert [row["state"] for row in table(output)] == ["failed", "failed"]


def test_the_own_settings_win_over_those_of_the_command_line(tiny, tmp_path, stubs):
    benchmark([Path(tiny().file)], [5], output=tmp_path / "out", overrides=["SEED=9"])
    log = (tmp_path / "out" / "tiny" / "seed5" / "log.txt").read_text()
    assert log.index("SEED=9") < log.index("SEED=5")


def test_ctrl_c_ends_the_child(tiny, tmp_path, stubs):
    (stubs / "run_training.py").write_text(STUB + WAITS)
    folder = tmp_path / "out" / "tiny"
    # A process of its own sends the signal: this one waits inside benchmark().
    code = (
        "import os, pathlib, time\n"
        f"log = pathlib.Path({str(folder / 'seed0' / 'log.txt')!r})\n"
        "while not (log.is_file() and 'ready' in log.read_text()): time.sleep(0.05)\n"
        f"os.kill({os.getpid()}, {int(signal.SIGINT)})\n"
    )
    sender = subprocess.Popen([sys.executable, "-c", code])
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        benchmark([Path(tiny().file)], [0, 1], output=tmp_path / "out")
    assert time.monotonic() - started < 50
    assert sender.wait() == 0
    assert not (folder / "seed1").exists()


@pytest.mark.parametrize("change", ["no [TESTING]", "no TRAIN_DATA_PATH", "TRAIN_DATA_PATH given"])
def test_what_a_file_lacks_is_told_unless_it_is_given(tiny, tmp_path, stubs, change):
    text = Path(tiny().file).read_text()
    path = re.search(r"TRAIN_DATA_PATH = .*", text)[0]
    file, given = tmp_path / "less.ini", []
    if change == "no [TESTING]":
        file.write_text(text[: text.index("[TESTING]")])
        told = "[TESTING] missing; add a section"
    else:
        file.write_text(text.replace(path, ""))
        given = [path.replace(" = ", "=")] if "given" in change else []
        told = "run_test.py wrote no" if given else "TRAIN_DATA_PATH: missing"
    (reason,) = benchmark([file], [0], output=tmp_path / "out", overrides=given).values()
    assert told in reason
    assert "--set" not in reason


def test_a_checkpoint_of_the_hub_to_start_from_is_the_same_config(tiny, tmp_path, monkeypatch):
    def pin(source, **_):
        return replace(source, revision="a" * 40)

    monkeypatch.setattr("engine.hub_files.pin", pin)
    start = "MODEL_CKPT_PATH=hf://me/repo/a.pth"
    run = module.Run(tmp_path / "out", Path(tiny().file), 0, (start,))
    files = module.test_files(run.files.folder)
    made = pinned(load_config(run.config, run.changes), "TESTING")
    write_text(files.config, ini_text(made))
    write_text(files.metrics, "{}")
    assert benchmark([run.config], [0], output=run.output, overrides=[start]) == {}


def test_configs_that_would_share_a_folder(tiny, tmp_path):
    with pytest.raises(UserError, match="several files are named tiny"):
        benchmark([Path(tiny().file), Path("other/tiny.ini")], [0], output=tmp_path)


def test_every_shipped_config_has_figures_to_compare_with():
    files = sorted((ROOT / "configs").glob("*.ini"))
    names = {load_config(file).need_testing().experiment_name for file in files}
    assert set(PUBLISHED) <= names
