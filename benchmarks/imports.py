"""How long ``import engine.predictor`` takes beside PyTorch and timm alone, which it needs.

    python -m benchmarks.imports --rounds 15 --json benchmarks/imports.json

Run from the repository's root. Each import has a process of its own; both take turns, so that a
machine that slows down slows both. A first round, which fills the system's file cache, is left out.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from utils.errors import run_script

ALONE, OURS = "torch, timm", "engine.predictor"
CHILD = """
import time
started = time.perf_counter(), time.process_time()
import {}
print(time.perf_counter() - started[0], time.process_time() - started[1])
"""

Times = dict[str, list[float]]
"""``clock`` and ``processor``: seconds of each import."""


def measure(rounds: int) -> dict[str, Times]:
    """Import both in turn, each time in a new process."""
    found: dict[str, Times] = {name: {"clock": [], "processor": []} for name in (ALONE, OURS)}
    for number in range(rounds + 1):
        for name, times in found.items():
            command = [sys.executable, "-c", CHILD.format(name)]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            if number:
                for each, seconds in zip(times.values(), run.stdout.split(), strict=True):
                    each.append(float(seconds))
    return found


def machine() -> dict[str, object]:
    """What the times depend on; the load says what else the machine was doing."""
    return {
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": version("torch"),
        "timm": version("timm"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="imports of each kind; default 15")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time")
    options = parser.parse_args(arguments)
    found = measure(options.rounds)
    ratios = {}
    for kind in ("clock", "processor"):
        alone, ours = (median(found[name][kind]) for name in (ALONE, OURS))
        ratios[kind] = ours / alone
        print(f"{kind}: {ALONE} {alone:.2f} s, {OURS} {ours:.2f} s, ratio {ratios[kind]:.2f}")
    if options.json:
        command = f"python -m benchmarks.imports --rounds {options.rounds} --json {options.json}"
        content = {"command": command, "machine": machine(), "ratio": ratios, "seconds": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
