#!/usr/bin/env python
"""Export a trained model to one ONNX file, which accepts images of any size.

python export_model.py --config configs/brain.ini --output brain.onnx
python export_model.py --config configs/brain.ini --output brain.onnx --precision fp16
"""

from pathlib import Path

from utils.config.ini import config_parser
from utils.errors import run_script


def main() -> None:
    """Parse the arguments and export."""
    parser = config_parser(__doc__)
    output = "ONNX file to write; must not exist yet"
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help=output)
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="precision of the stored weights; fp16 halves the file (default: fp32)",
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
