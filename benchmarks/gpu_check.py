"""What one GPU does with this code, in at most eight minutes: parity, speed, memory, feeding.

    python -m benchmarks.gpu_check
    python -m benchmarks.gpu_check --config configs/small.ini --batches 2 --steps 1 --device cpu

Run from the repository's root. Nothing is downloaded and no data set is read: weights are random,
images are noise or phantoms. Every part runs in processes of its own; a part that no time is left
for is named. Prints tables, and writes ``benchmarks/gpu-NAME.json``.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import throughput
from utils.errors import run_script

ROOT = Path(__file__).parent.parent
# Training and testing against the published code, and the share of the bf16 peak, on an H100.
GOALS = {"train": 8.0, "test": 6.0, "share of matmul": 0.45}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "brain.ini")
    parser.add_argument("--device", default="cuda", help="cpu tries all of it out without a card")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 4], metavar="N")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each kind")
    parser.add_argument("--minutes", type=float, default=8, help="after which no part is begun")
    parser.add_argument("--json", type=Path, metavar="FILE", help="instead of gpu-NAME.json")
    return parser.parse_args(arguments)


def machine(device: str) -> dict[str, Any]:
    """Card, driver, versions, cores."""
    found: dict[str, Any] = {"torch": torch.__version__, "cores": os.cpu_count(), "card": device}
    if device.startswith("cuda"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        found |= {
            "card": torch.cuda.get_device_name(device),
            "cards": torch.cuda.device_count(),
            "driver": driver.split("\n")[0],
            "cuda": torch.version.cuda,
        }
    return found


def parity(device: str) -> dict[str, Any]:
    """The tests marked ``gpu``: golden values in fp32, TF32 and bf16, on the card."""
    tests = ["tests/engine/test_modes.py", "-m", "gpu and not slow"]
    if not device.startswith("cuda"):
        tests = ["tests/engine/test_modes.py", "-k", "cpu and not compiled"]
    command = [sys.executable, "-m", "pytest", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {"exit": done.returncode, "said": done.stdout.strip().split("\n")[-1]}


def speed(options: argparse.Namespace, batch: int, *changes: str, compare: bool) -> dict[str, Any]:
    """Figures of training and test steps by variant, and the tables printed."""
    asked = throughput.parse(["--config", str(options.config), "--rounds", "1"])
    vars(asked).update(
        device=options.device, batch=batch, steps=options.steps, compare=compare, set=list(changes)
    )
    variants = throughput.measure_variants(asked)
    print(throughput.table(variants), flush=True)
    return {
        name: {each.step: throughput.figures(each) for each in found}
        for name, found in variants.items()
    }


def feeding() -> dict[str, float]:
    """Images per second that the loader alone gives, by number of processes."""
    rates = {}
    for workers in {1, min(os.cpu_count() or 1, 16)}:
        command = [sys.executable, "-m", "benchmarks.loader", "--side", "240"]
        command += ["--workers", str(workers), "--batch", "64", "--images", "640", "--epochs", "3"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        row = re.search(r"^\| none \|.*\| (\d+) \|$", done.stdout, re.MULTILINE)
        assert row is not None
        rates[f"{workers} processes"] = float(row[1])
    return rates


def several_cards(options: argparse.Namespace, count: int) -> dict[str, float]:
    """Images per second of an epoch of phantoms, with one card and with all of them."""
    rates = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = ["-m", "datasets.phantom.write", "--output", scratch, "--size", "64"]
        subprocess.run([sys.executable, *data], cwd=ROOT, check=True, capture_output=True)
        for devices in (1, count):
            results = Path(scratch, str(devices))
            changes = {
                "DEVICE": options.device, "DEVICES": devices, "RESULTS_PATH": results,
                "TRAIN_DATA_PATH": Path(scratch, "train"), "VAL_DATA_PATH": Path(scratch, "valid"),
                "MODEL_WEIGHTS": "random", "PERCEPTUAL_WEIGHTS": "random", "N_EPOCHS": 2,
                "CACHE_IMAGES": "ram", "BATCH_SIZE_TRAIN": max(options.batches),
            }  # fmt: skip
            command = [sys.executable, "run_training.py", "--config", str(options.config)]
            for key, value in changes.items():
                command += ["--set", f"{key}={value}"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            table = (results / "training.csv").read_text(encoding="utf-8").split()
            column = table[0].split(",").index("images_per_second")
            rates[f"{devices} cards"] = float(table[-1].split(",")[column])
    return rates


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    options = parse(arguments)
    started, results = time.perf_counter(), {"machine": machine(options.device)}
    cards = results["machine"].get("cards", 1)
    parts = {"parity": lambda: parity(options.device)}
    for batch in options.batches:
        parts[f"batch {batch}"] = lambda batch=batch: speed(options, batch, compare=True)
    largest = max(options.batches)
    parts["loader, images / s"] = feeding
    parts["compiled"] = lambda: speed(options, largest, "COMPILE=1", compare=False)
    if cards > 1:
        parts["several cards, images / s"] = lambda: several_cards(options, cards)
    for name, measured in parts.items():
        begun = time.perf_counter()
        if begun - started > 60 * options.minutes:
            results[name] = "not measured: no time left"
            print(f"{name}: no time left")
            continue
        results[name] = measured()
        # Of compiled code, this is the warm-up above all.
        print(
            f"{name}: {time.perf_counter() - begun:.0f} s; {json.dumps(results[name])}\n",
            flush=True,
        )
    name = re.sub(r"\W+", "-", results["machine"]["card"].lower())
    file = options.json or ROOT / "benchmarks" / f"gpu-{name}.json"
    results |= {"goals": GOALS, "minutes": round((time.perf_counter() - started) / 60, 1)}
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"written: {file}")


if __name__ == "__main__":
    run_script(main)
