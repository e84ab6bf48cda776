"""Command-line arguments that all scripts share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--config FILE`` and ``--set KEY=VALUE``."""
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="an INI file, see configs/"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the config; may be given several times",
    )
