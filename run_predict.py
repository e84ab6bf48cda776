#!/usr/bin/env python
"""Score images without labels: verdicts, anomaly maps, overlays, a report.

    python run_predict.py --config configs/brain.ini --input scan.png
    python run_predict.py --config configs/brain.ini --input folder --output out --recursive

Exit code 1 if a file could not be read; the others are scored all the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from utils.config.ini import add_config_arguments
from utils.errors import run_script


def main() -> int:
    """Parse the arguments and predict."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--input", required=True, type=Path, metavar="FILE|FOLDER", help="what to score"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: predictions under RESULTS_PATH"
    )
    parser.add_argument("--recursive", action="store_true", help="search subfolders too")
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait for torch.
    from utils.config.load import load_config

    config = load_config(arguments.config, arguments.set)
    from engine.hub_files import pinned
    from engine.predict import predict
    from utils.console import setup_logging

    setup_logging()
    config = pinned(config, "TESTING")
    errors = predict(config, arguments.input, arguments.output, recursive=arguments.recursive)
    return 1 if errors else 0


if __name__ == "__main__":
    run_script(main)
