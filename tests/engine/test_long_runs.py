"""Ten thousand images, two hundred epochs: memory and handles stay where they were (make soak)."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import read_csv
from tests.processes import python

IMAGES = int(os.environ.get("QFAE_IMAGES", "10000"))
EPOCHS = int(os.environ.get("QFAE_EPOCHS", "200"))
# Runs a command that notes, at each call of one function, what it and its children hold.
DRIVER = """
import json, os, sys, threading
from importlib import import_module
from pathlib import Path
from utils.errors import run_script

PAGE = os.sysconf("SC_PAGE_SIZE")

def children():
    return Path(f"/proc/self/task/{{os.getpid()}}/children").read_text().split()

def rss(process):
    return int(Path(f"/proc/{{process}}/statm").read_text().split()[1]) * PAGE

samples = []

def sample():
    processes = children()
    samples.append({{
        "rss": rss("self") + sum(rss(each) for each in processes),
        "files": len(os.listdir("/proc/self/fd")),
        "processes": len(processes),
        "threads": threading.active_count(),
    }})

owner = getattr(import_module({module!r}), {name!r})
original = getattr(owner, {function!r})

def watched(*arguments, **options):
    sample()
    return original(*arguments, **options)

setattr(owner, {function!r}, watched)
try:
    run_script(import_module({script!r}).main)
finally:
    Path({output!r}).write_text(json.dumps(samples))
"""


def run(tmp_path: Path, script: str, watched: tuple[str, str, str], *arguments: str) -> list[dict]:
    """Run a command; returns what it held at each call of (module, class, function)."""
    output = tmp_path / "samples.json"
    module, name, function = watched
    code = DRIVER.format(
        module=module, name=name, function=function, script=script,
        output=str(output),
    )  # fmt: skip
    settings = [
        part for each in ("NUM_WORKERS=1", "BATCH_SIZE_TEST=20") for part in ("--set", each)
    ]
    command = ["-c", code, "--config", tmp_path / "tiny.ini", *settings, *arguments]
    result = python(*command, timeout=None, TQDM_DISABLE="1")
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(output.read_text())


def slope(samples: list[dict], steps: int) -> float:
    """Bytes that memory grows by in a step of the second half, by least squares."""
    half = np.array([each["rss"] for each in samples[len(samples) // 2 :]], dtype=float)
    at = np.arange(len(half)) * steps / len(samples)
    return float(np.polyfit(at, half, 1)[0])


def write_images(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    for index in range(count):
        pixels = noise.integers(0, 256, (32, 32), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{index:05}.png"), pixels)


@pytest.fixture
def many(trained, tmp_path):
    """A trained model, and a test set of many images, one in twenty with a mask."""
    folder = tmp_path / "many"
    anomalous = IMAGES // 20
    write_images(folder / "good", IMAGES - anomalous, seed=1)
    write_images(folder / "Ungood" / "img", anomalous, seed=2)
    (folder / "Ungood" / "label").mkdir()
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:20] = 255
    for image in (folder / "Ungood" / "img").iterdir():
        assert cv2.imwrite(str(folder / "Ungood" / "label" / image.name), mask)
    return folder


# One anomaly map has 4096 bytes; a prediction keeps the rows of its scores.csv, some hundreds.
LIMITS = [("run_test", "results/test", 1000), ("run_predict", "out", 2000)]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "results", "limit"), LIMITS)
def test_memory_is_flat_over_many_images(many, tmp_path, script, results, limit):
    arguments = {
        "run_test": ["--set", f"TEST_DATA_PATH={many}"],
        "run_predict": ["--input", str(many), "--recursive", "--output", str(tmp_path / "out")],
    }
    scoring = ("engine.evaluate.evaluate", "Scorer", "score")
    samples = run(tmp_path, script, scoring, *arguments[script])
    rows = len(read_csv(tmp_path / results / "scores.csv"))
    assert rows >= IMAGES
    # Before and after it, other images are scored: of the calibration, for the pictures.
    batches = samples[: rows // 20] if script == "run_test" else samples[-(rows // 20) :]
    print(f"\n{script}: {slope(batches, rows):.0f} bytes per image, {batches[-1]['rss']:,} in all")
    assert slope(batches, rows) < limit


@pytest.mark.slow
def test_nothing_leaks_over_many_epochs(tiny, tmp_path):
    tiny()
    epochs = ("engine.train.start", "Trainer", "_finish_epoch")
    overrides = ["--set", f"N_EPOCHS={EPOCHS}", "--set", "EVAL_STEPSIZE=5"]
    samples = run(tmp_path, "run_training", epochs, *overrides)
    assert len(samples) == EPOCHS
    grown = slope(samples, EPOCHS)
    print(f"\nrun_training: {grown:.0f} bytes per epoch, {samples[-1]}")
    # 200 epochs in TensorBoard, table and plot are less; a model that is kept has 600,000.
    assert grown < 50_000
    for kind in ("files", "processes", "threads"):
        counts = [each[kind] for each in samples[10:]]
        assert max(counts) - min(counts) <= 1, (kind, counts)
        assert counts[-1] <= counts[0] + 1
