"""The same seed on the same machine gives the same files, on the CPU."""

import shutil
from pathlib import Path

import pytest

from engine.evaluate.calibrate import calibrate_trained
from engine.testing.test import test as run_test
from engine.train.start import train
from tests.processes import python
from utils.config.load import Config

TIMED = ("seconds", "images_per_second")


def comparable(name: str, content: bytes) -> bytes:
    """What must be equal of a file: all but times, and what says how many processes read."""
    if name == "training.csv":
        lines = [line.split(b",") for line in content.splitlines()]
        kept = [at for at, column in enumerate(lines[0]) if column.decode() not in TIMED]
        return b"\n".join(b",".join(line[at] for at in kept) for line in lines)
    if name in ("report.html", "config.ini"):
        # The report's time of making is the one line of this class.
        ignored = (b'<p class="made">', b"NUM_WORKERS = ")
        lines = [line for line in content.splitlines() if not line.startswith(ignored)]
        left_out = len(content.splitlines()) - len(lines)
        assert left_out == (3 if name == "report.html" else 2)
        return b"\n".join(lines)
    return content


def files_below(folder: Path) -> dict[str, bytes]:
    """Name → what must be equal, of all files; event files hold times throughout."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(folder)): comparable(file.name, file.read_bytes())
        for file in files
        if file.parent.name != "tensorboard" and file.name not in ("training_state.pth", ".lock")
    }


def check_equal(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    names = {"checkpoints/last_ckpt.pth", "test/scores.csv", "test/report.html", "training.csv"}
    assert names < expected.keys()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def make(config: Config) -> dict[str, bytes]:
    folder = train(config)
    calibrate_trained(config)
    run_test(config)
    files = files_below(folder)
    shutil.rmtree(folder)
    return files


def test_the_number_of_loader_processes_changes_no_file(tiny):
    expected = make(tiny("N_EPOCHS=2", "NUM_WORKERS=0"))
    check_equal(make(tiny("N_EPOCHS=2", "NUM_WORKERS=2")), expected)


@pytest.mark.slow
def test_two_runs_of_the_commands_give_the_same_files(tiny, tmp_path):
    tiny()
    folder, runs = tmp_path / "results", []
    for hash_seed in ("1", "2"):
        # Sets of texts come in another order in each process.
        for script in ("run_training.py", "run_test.py"):
            run = python(script, "--config", tmp_path / "tiny.ini", PYTHONHASHSEED=hash_seed)
            assert run.returncode == 0, run.stderr
        runs.append(files_below(folder))
        shutil.rmtree(folder)
    check_equal(*runs)
