"""Seconds from the start of a training to its first batch, and what they are spent on.

    python -m benchmarks.start --config configs/demo.ini --rounds 5 --json benchmarks/start.json

Run from the repository's root, with the config's images in their place (``make demo`` draws those
of demo.ini). Each start has a process of its own; a first one, which fills the system's file cache,
is left out.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.imports import machine
from utils.config.ini import config_parser
from utils.errors import run_script

CHILD = """
import json, sys, time
seconds, started = {}, time.perf_counter()

def timed(name, function):
    def call(*arguments, **options):
        before = time.perf_counter()
        result = function(*arguments, **options)
        seconds[name] = seconds.get(name, 0) + time.perf_counter() - before
        return result
    return call

from engine.train import start
from utils.config.load import load_config
seconds["imports"] = time.perf_counter() - started
config = timed("config", load_config)(sys.argv[1], sys.argv[2:])
start._find_splits = timed("finding images", start._find_splits)
start.checked_dataset = timed("reading headers", start.checked_dataset)
start._build = timed("networks and weights", start._build)
trainer = start.create_trainer(config)
timed("loader and first batch", lambda: next(iter(trainer.loader)))()
total = time.perf_counter() - started
print(json.dumps(seconds | {"other": total - sum(seconds.values()), "total": total}))
"""


def measure(config: str, overrides: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Part → seconds in each start."""
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        command = [sys.executable, "-c", CHILD, config, *overrides]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for name, seconds in json.loads(run.stdout.splitlines()[-1]).items() if number else ():
            found.setdefault(name, []).append(seconds)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write where asked."""
    parser = config_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="starts; default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time")
    options = parser.parse_args(arguments)
    found = measure(str(options.config), options.set, options.rounds)
    for name, seconds in found.items():
        print(f"{name:24}{median(seconds):7.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
    if options.json:
        content = {"config": str(options.config), "machine": machine(), "seconds": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
