#!/usr/bin/env python
"""Train and test several configs with several seeds; all runs go into one table.

    python run_benchmark.py --configs configs/brain.ini configs/resc.ini --seeds 0 1 2
    python run_benchmark.py --configs configs/*.ini --set N_EPOCHS=10 --output results/short

Run the same command again to skip finished runs, resume interrupted ones and retry failed ones.
A failed run does not stop the others; the exit code is then 1.
"""

import argparse
from pathlib import Path

from utils.errors import run_script


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configs", required=True, nargs="+", type=Path, metavar="FILE", help="INI files"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results/benchmark"),
        metavar="DIR",
        help="folder for all runs and the table; default: %(default)s",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key in all configs; can be repeated",
    )
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait; PyTorch comes after the first line.
    print(f"loading PyTorch, for {len(arguments.configs)} configs", flush=True)
    from engine.benchmark.runs import benchmark

    failures = benchmark(
        arguments.configs, arguments.seeds, output=arguments.output, overrides=arguments.set
    )
    return 1 if failures else 0


if __name__ == "__main__":
    run_script(main)
