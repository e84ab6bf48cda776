#!/usr/bin/env python
"""Train and test several configs with several seeds; one table of all runs.

    python run_benchmark.py --configs configs/brain.ini configs/resc.ini --seeds 0 1 2
    python run_benchmark.py --configs configs/*.ini --set N_EPOCHS=10 --output results/short

The same command again skips what is done, goes on with what was cut short, and retries what
failed. Exit code 1 if a run failed; the others are made all the same.
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
        help="folder of all runs and of the table; default: %(default)s",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of all configs; may be given several times",
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
