#!/usr/bin/env python
"""Serve a web page that scores the files dropped on it: pictures, DICOM, NIfTI.

python run_app.py --config configs/brain.ini
python run_app.py --config configs/brain.ini --port 8080
"""

import os
from tempfile import TemporaryDirectory

from utils.config.ini import config_parser
from utils.errors import run_script


def main() -> None:
    """Parse the arguments and serve the page."""
    parser = config_parser(__doc__)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; default: this machine only; 0.0.0.0: the whole network",
    )
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="default: 7860")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 65536:
        parser.error(f"--port {arguments.port}: use a number from 1 to 65535")

    # After parsing, so that --help and wrong calls do not wait; PyTorch comes after the first line.
    from utils.console import setup_logging

    logger = setup_logging()
    logger.info("loading PyTorch and %s", arguments.config)
    from utils.config.load import load_config

    config = load_config(arguments.config, arguments.set)
    from datasets.readers.base import optional_package

    with TemporaryDirectory(prefix="qfae-") as folder:
        # Gradio creates this folder when imported; its default is shared by all users of a machine.
        os.environ["GRADIO_TEMP_DIR"] = folder
        optional_package("gradio", "serves the page", extra="app")
        logger.info("loading the model and the page")
        from app.server import serve
        from engine.hub_files import pinned
        from engine.predictor import Predictor

        predictor = Predictor.from_config(pinned(config, "TESTING"))
        serve(predictor, arguments.host, arguments.port)


if __name__ == "__main__":
    run_script(main, "the page's temporary files have been deleted")
