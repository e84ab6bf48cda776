#!/usr/bin/env python
"""Write a trained model as one ONNX file that takes pictures as they are.

python export_model.py --config configs/brain.ini --output brain.onnx
python export_model.py --config configs/brain.ini --output brain.onnx --precision fp16
"""

from pathlib import Path

from utils.config.ini import config_parser
from utils.errors import run_script


def main() -> None:
    """Parse the arguments and export."""
    parser = config_parser(__doc__)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="a new file")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="of the weights in the file; fp16 halves it (default: fp32)",
    )
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait; PyTorch comes after the first line.
    from utils.console import setup_logging

    setup_logging().info("loading PyTorch and %s", arguments.config)
    from utils.config.load import load_config

    config = load_config(arguments.config, arguments.set)
    from engine.export.onnx_file import export
    from engine.hub_files import pinned

    export(pinned(config, "TESTING"), arguments.output, arguments.precision)


if __name__ == "__main__":
    run_script(main)
