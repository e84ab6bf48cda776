#!/usr/bin/env python
"""Train a Q-Former Autoencoder on normal images.

python run_training.py --config configs/brain.ini
python run_training.py --config configs/brain.ini --resume
python run_training.py --config configs/brain.ini --set N_EPOCHS=10 --set DEVICE=cuda:1
"""

from utils.config.ini import config_parser
from utils.errors import run_script


def main() -> None:
    """Parse the arguments and train."""
    parser = config_parser(__doc__)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="continue an interrupted run")
    group.add_argument(
        "--overwrite", action="store_true", help="delete the run in RESULTS_PATH and start over"
    )
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait; PyTorch comes after the first line.
    from utils.console import setup_logging

    logger = setup_logging()
    logger.info("loading PyTorch and %s", arguments.config)
    from utils.config.load import load_config

    config = load_config(arguments.config, arguments.set)
    logger.info("training %s into %s", config.file, config.need_training().results_path)
    from engine.evaluate.calibrate import calibrate_trained
    from engine.hub_files import pinned
    from engine.train.screen import command_to_test
    from engine.train.start import train

    config = pinned(config, "TRAINING")
    folder = train(config, resume=arguments.resume, overwrite=arguments.overwrite)
    calibrate_trained(config)
    logger.info("trained: checkpoints, training.csv and curves.png are in %s", folder)
    if config.testing is not None:
        logger.info("test it with: %s", command_to_test(config, folder, arguments.set))


if __name__ == "__main__":
    run_script(main, "continue with --resume; if no epoch was finished, run the same command again")
