#!/usr/bin/env python
"""Score images without labels: verdicts, anomaly maps, overlays, a report.

    python run_predict.py --config configs/brain.ini --input scan.png
    python run_predict.py --config configs/brain.ini --input folder x.dcm --output out --recursive
    find scans -name "*.dcm" | python run_predict.py --config configs/brain.ini --input -

Exit code 0: all images are scored; 1: some could not be read, the others are scored all the same;
2: the call, the config or the weights are wrong; 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
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
        "--input",
        required=True,
        nargs="+",
        metavar="PATH",
        help="files, folders, patterns such as 'scans/*.dcm', or - for paths on standard input",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: predictions under RESULTS_PATH"
    )
    parser.add_argument("--recursive", action="store_true", help="search subfolders too")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of another prediction"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="call scores from X up anomalous, whatever validation images say",
    )
    parser.add_argument("--no-maps", action="store_true", help="write no anomaly maps")
    parser.add_argument("--no-overlays", action="store_true", help="write no overlays")
    parser.add_argument(
        "--dicom-seg", action="store_true", help="write DICOM SEG objects of DICOM series"
    )
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait for torch.
    from utils.config.load import load_config

    config = load_config(arguments.config, arguments.set)
    from datasets.folders.inputs import expand_names
    from engine.hub_files import pinned
    from engine.predict import Output, predict
    from utils.console import setup_logging

    setup_logging()
    errors = predict(
        pinned(config, "TESTING"),
        expand_names(arguments.input, sys.stdin),
        Output(
            arguments.output,
            overwrite=arguments.overwrite,
            maps=not arguments.no_maps,
            overlays=not arguments.no_overlays,
            dicom_seg=arguments.dicom_seg,
        ),
        recursive=arguments.recursive,
        threshold=arguments.threshold,
    )
    return 1 if errors else 0


if __name__ == "__main__":
    run_script(main)
