#!/usr/bin/env python
"""Score images without labels: verdicts, anomaly maps, overlays, a report.

python run_predict.py --config configs/brain.ini --input scan.png
python run_predict.py --config configs/brain.ini --input folder x.dcm --output out --recursive
find scans -name "*.dcm" | python run_predict.py --config configs/brain.ini --input -
"""

import sys
from pathlib import Path

from utils.config.ini import config_parser, finite
from utils.errors import run_script


def main() -> int:
    """Parse the arguments and predict."""
    parser = config_parser(__doc__)
    paths = "files, folders, patterns such as 'scans/*.dcm', or - for paths on standard input"
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help=paths)
    default = "default: predictions under RESULTS_PATH"
    parser.add_argument("--output", type=Path, metavar="DIR", help=default)
    several = "instead of CHECKPOINT_PATH; several form an ensemble"
    parser.add_argument("--checkpoints", nargs="+", default=[], metavar="FILE", help=several)
    parser.add_argument("--threshold", type=finite, metavar="X", help="replaces the learnt one")
    parser.add_argument("--recursive", action="store_true", help="search subfolders too")
    for option, text in (
        ("--overwrite", "replace the results of another prediction"),
        ("--no-maps", "write no anomaly maps"),
        ("--no-overlays", "write no overlays"),
        ("--dicom-seg", "also write a DICOM SEG object for each DICOM series"),
    ):
        parser.add_argument(option, action="store_true", help=text)
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait; PyTorch comes after the first line.
    from utils.console import setup_logging

    setup_logging().info("loading PyTorch and %s", arguments.config)
    from utils.config.load import load_config

    if arguments.checkpoints:
        arguments.set.append(f"CHECKPOINT_PATH={', '.join(arguments.checkpoints)}")
    config = load_config(arguments.config, arguments.set)
    from datasets.folders.inputs import expand_names
    from engine.hub_files import pinned
    from engine.prediction.predict import Output, predict

    wanted = {"maps": not arguments.no_maps, "overlays": not arguments.no_overlays}
    output = Output(arguments.output, arguments.overwrite, dicom_seg=arguments.dicom_seg, **wanted)
    sources = expand_names(arguments.input, sys.stdin)
    config = pinned(config, "TESTING")
    return 1 if predict(config, sources, output, arguments.recursive, arguments.threshold) else 0


if __name__ == "__main__":
    run_script(main, "run the same command again with --overwrite")
