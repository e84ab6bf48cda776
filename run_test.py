#!/usr/bin/env python
"""Score a test set with a trained Q-Former Autoencoder.

python run_test.py --config configs/brain.ini
python run_test.py --config configs/brain.ini --set CHECKPOINT_PATH=last_ckpt.pth
"""

from utils.config.ini import config_parser
from utils.errors import run_script


def main() -> None:
    """Parse the arguments and test."""
    parser = config_parser(__doc__)
    parser.add_argument(
        "--compute_pixel_metrics",
        action="store_true",
        help="no effect, accepted for old commands: pixel metrics are computed if there are masks",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results of another config or checkpoint in RESULTS_PATH",
    )
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait; PyTorch comes after the first line.
    from utils.console import setup_logging

    logger = setup_logging()
    logger.info("loading PyTorch and %s", arguments.config)
    from utils.config.load import load_config

    config = load_config(arguments.config, arguments.set)
    logger.info("testing %s into %s", config.file, config.need_testing().results_path)
    from engine.hub_files import pinned
    from engine.run_folder import check_same_test
    from engine.testing.test import test

    config = pinned(config, "TESTING")
    if not arguments.overwrite:
        check_same_test(config)
    test(config)


if __name__ == "__main__":
    run_script(main)
