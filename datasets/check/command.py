"""The command behind check_dataset.py."""

import argparse
import json
import logging
import re

from datasets.check.config_file import config_text, next_commands
from datasets.check.findings import check_dataset
from datasets.check.report import Report, as_json, as_text
from datasets.folders.slicing import Slicing
from datasets.folders.splits import places_of_config, places_of_folder
from datasets.readers.formats import shown
from utils.config.load import load_config
from utils.console import setup_logging
from utils.errors import UserError
from utils.files import write_text

logger = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Check, print, write.

    Returns:
        0 if nothing must be fixed, else 1.

    Raises:
        UserError: The call or the config is wrong.
    """
    setup_logging()
    _check_pattern(options.patient_pattern)
    if options.write_config and not options.data:
        raise UserError("--write-config: needs a data set's folder; use it with --data")
    if options.write_config and options.write_config.exists():
        raise UserError(
            f"--write-config: {shown(options.write_config)} already exists; choose another name"
        )
    report = _check_config(options) if options.config else _check_folder(options)
    print(as_text(report))
    if options.json:
        write_text(options.json, json.dumps(as_json(report), indent=2) + "\n")
    if options.write_config:
        text = config_text(options.write_config, options.data, report, options.patient_pattern)
        write_text(options.write_config, text)
        print(next_commands(options.write_config, report))
    return 0 if report.clean else 1


def _check_config(options: argparse.Namespace) -> Report:
    logger.info("loading PyTorch and %s", options.config)
    config = load_config(options.config, options.set)
    settings = config.testing or config.need_training()
    pattern = config.testing.patient_pattern if config.testing else None
    return check_dataset(
        places_of_config(config),
        names=(settings.experiment_name, settings.object),
        patient_pattern=options.patient_pattern or pattern,
        slicing=Slicing.of(settings),
    )


def _check_folder(options: argparse.Namespace) -> Report:
    if options.set:
        raise UserError("--set: changes keys of a config; use it with --config, not --data")
    places = places_of_folder(options.data)
    return check_dataset(places, patient_pattern=options.patient_pattern)


def _check_pattern(pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise UserError(f"--patient-pattern: '{pattern}': {error}") from error
