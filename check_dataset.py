#!/usr/bin/env python
"""Check every file of a data set before training: layout, damage, masks, duplicates, leaks.

python check_dataset.py --data data/Brain
python check_dataset.py --config configs/brain.ini --json check.json
python check_dataset.py --data data/mine --write-config configs/mine.ini

Exit code: 0 clean, 1 something must be fixed, 2 the call or the config is wrong.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.errors import run_script


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, with ``arguments`` instead of those of the process."""
    options = _parser().parse_args(arguments)

    # After parsing, so that --help is quick.
    from datasets.check.command import run

    return run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="check the splits in a config")
    source.add_argument("--data", type=Path, metavar="DIR", help="check the splits in a folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all findings as JSON")
    parser.add_argument(
        "--write-config",
        type=Path,
        metavar="FILE",
        help="write a config for the data set in --data",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of --config"
    )
    parser.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="report patients that are in several splits; the pattern's first group in a file "
        "name is the patient",
    )
    return parser


if __name__ == "__main__":
    run_script(main)
