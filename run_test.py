#!/usr/bin/env python
"""Score a test set with a trained Q-Former Autoencoder.

python run_test.py --config configs/brain.ini
python run_test.py --config configs/brain.ini --set CHECKPOINT_PATH=last_ckpt.pth
"""

from __future__ import annotations

import argparse

from utils.arguments import add_config_arguments
from utils.errors import run_script


def main() -> None:
    """Parse the arguments and test."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--compute_pixel_metrics",
        action="store_true",
        help="accepted for older commands: pixel metrics are on wherever there are masks",
    )
    arguments = parser.parse_args()

    # After parsing, so that --help and wrong calls do not wait for torch.
    from utils.config import load_config

    config = load_config(arguments.config, arguments.set)
    from engine.figures import summary
    from engine.reporting import write_report
    from engine.testing import test
    from utils.console import setup_logging

    setup_logging()
    run = test(config)
    if run.scorer.fabric.is_global_zero:
        report = config.need_testing().results_path / "report.html"
        write_report(run, report)
        print(summary(run.metrics))
        print(f"pictures and figures: {report}")


if __name__ == "__main__":
    run_script(main)
