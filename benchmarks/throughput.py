"""Time, memory and arithmetic of a training step and a test step, with random weights.

    python -m benchmarks.throughput --config configs/brain.ini
    python -m benchmarks.throughput --config configs/brain.ini --batch 4 --compare --rounds 2

Run from the repository's root. Images are noise; the data set of the config is not read. Each
kind of step is measured in a process of its own, so that peaks of memory do not mix.
``--as-published`` computes the same numbers the published way (benchmarks/as_published.py), in
fp32 (matrix products without TF32, cuDNN's convolutions with it). ``--compare`` measures both in
turn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from utils.config.ini import config_parser
from utils.config.load import load_config
from utils.errors import run_script

if TYPE_CHECKING:
    # torch is imported where it is needed: the process that compares stays small.
    from benchmarks.measurement import Measurement

ROOT = Path(__file__).parent.parent
OURS, PUBLISHED = "this code", "as published"
KINDS = ("train", "test")
Variants = dict[str, list["Measurement"]]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = config_parser(__doc__)
    parser.add_argument("--device", help="instead of the config's DEVICE")
    parser.add_argument("--batch", type=int, help="instead of the config's batch sizes")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of each kind")
    parser.add_argument("--step", choices=KINDS, help="this kind alone, in this very process")
    parser.add_argument("--data", action="store_true", help="measure reading PNGs as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--as-published", action="store_true", help="compute the published way")
    kind.add_argument("--compare", action="store_true", help="measure both in turn")
    parser.add_argument("--rounds", type=int, default=1, help="times that all is measured")
    return parser.parse_args(arguments)


def overrides(options: argparse.Namespace) -> list[str]:
    """What the command line changes in the config."""
    changes = [*options.set, "MODEL_WEIGHTS=random", "PERCEPTUAL_WEIGHTS=random"]
    if options.device:
        changes.append(f"DEVICE={options.device}")
    if options.batch:
        changes += [f"BATCH_SIZE_TRAIN={options.batch}", f"BATCH_SIZE_TEST={options.batch}"]
    return [*changes, "PRECISION=fp32", "COMPILE=0"] if options.as_published else changes


def measured_here(options: argparse.Namespace) -> Measurement:
    """One kind of step in this process."""
    from benchmarks.steps import measure

    config = load_config(options.config, overrides(options))
    training, testing = config.need_training(), config.need_testing()
    train = options.step == "train"
    return measure(
        training if train else testing,
        batch=training.batch_size_train if train else testing.batch_size_test,
        steps=options.steps,
        as_published=options.as_published,
        data=options.data,
    )


def measured_apart(options: argparse.Namespace) -> Measurement:
    """The same in a process of its own."""
    from benchmarks.measurement import Measurement

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "figures.json")
        command = [sys.executable, "-m", "benchmarks.throughput", "--json", str(file)]
        command += ["--config", str(options.config.resolve()), "--step", options.step]
        command += [argument for change in options.set for argument in ("--set", change)]
        for name in ("device", "batch", "steps"):
            if getattr(options, name):
                command += [f"--{name}", str(getattr(options, name))]
        command += ["--data"] if options.data else []
        command += ["--as-published"] if options.as_published else []
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        ((figures,),) = json.loads(file.read_text(encoding="utf-8")).values()
        return Measurement(**figures)


def measure_variants(options: argparse.Namespace) -> Variants:
    """Variants in turn, so that a machine that slows down slows both; rounds are merged."""
    alone = PUBLISHED if options.as_published else OURS
    measured = measured_here if options.step else measured_apart
    found: Variants = {}
    for _ in range(options.rounds):
        for variant in (OURS, PUBLISHED) if options.compare else (alone,):
            new = []
            for step in [options.step] if options.step else KINDS:
                changes = {"as_published": variant == PUBLISHED, "step": step}
                new.append(measured(argparse.Namespace(**(vars(options) | changes))))
            old = found.get(variant)
            pairs = zip(old, new, strict=True) if old else ()
            found[variant] = [one.merged(other) for one, other in pairs] or new
    return found


def table(variants: Variants) -> str:
    """Markdown tables of both kinds of steps, with the ratio of medians where there are two."""
    parts = []
    for measurements in zip(*variants.values(), strict=True):
        first = measurements[0]
        machines = "; ".join(
            f"{variant}: {each.machine}"
            for variant, each in zip(variants, measurements, strict=True)
        )
        head = [f"{first.step}, batch {first.batch}", *variants]
        head += ["as published / this code"] if len(variants) > 1 else []
        columns = [figures(each) for each in measurements]
        rows = [_row(name, [column[name] for column in columns]) for name in columns[0]]
        parts += [f"{machines}; {len(first.seconds)} steps", ""]
        parts += [table_line(head), table_line(["---"] * len(head)), *rows, ""]
    return "\n".join(parts)


def figures(measurement: Measurement) -> dict[str, float | None]:
    """Name of a figure → value; None where it was not measured."""
    seconds = median(measurement.seconds)
    milliseconds = {
        f"{name}, ms": 1e3 * median(times) if times else None
        for name, times in measurement.parts.items()
    }
    speed = measurement.flops / seconds
    return {
        "images / s": measurement.batch / seconds,
        "one step, ms": 1e3 * seconds,
        **milliseconds,
        "peak memory, GB": measurement.peak_bytes / 1e9,
        "GFLOP per image": measurement.flops / measurement.batch / 1e9,
        "TFLOP/s": speed / 1e12,
        "matmul TFLOP/s": measurement.matmul_flops / 1e12,
        "share of matmul": speed / measurement.matmul_flops,
    }


def _row(name: str, values: Sequence[float | None]) -> str:
    cells = ["–" if value is None else _shown(value) for value in values]
    if len(values) == 2:
        ours, published = values
        cells.append(f"{published / ours:.2f}" if ours and published is not None else "–")
    return table_line([name, *cells])


def _shown(value: float) -> str:
    """Three figures, never in powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table_line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    variants = measure_variants(options)
    print(table(variants))
    if options.json:
        content = {name: [asdict(each) for each in found] for name, found in variants.items()}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
