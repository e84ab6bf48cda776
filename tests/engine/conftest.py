"""A tiny run that has been trained and calibrated, once for all tests."""

import shutil
from pathlib import Path

import pytest

from engine.evaluate.calibrate import calibrate_trained
from engine.evaluate.calibration import calibration_path, fingerprint
from engine.train.start import train
from tests.conftest import tiny_in
from utils.config.schema import TestingConfig


def path_of_calibration(config: TestingConfig) -> Path:
    return calibration_path(config, fingerprint(config))


@pytest.fixture(scope="session")
def run_of_one_epoch(tmp_path_factory, phantoms):
    """The folder of its results."""
    config = tiny_in(tmp_path_factory.mktemp("trained"), phantoms)("N_EPOCHS=1")
    folder = train(config)
    calibrate_trained(config)
    return folder


@pytest.fixture
def trained(tiny, tmp_path, run_of_one_epoch):
    """Gives configs as ``tiny`` does, of a model that was trained for one epoch."""
    shutil.copytree(run_of_one_epoch, tmp_path / "results")
    return tiny


@pytest.fixture
def uncalibrated(trained):
    """The same without the threshold that goes with the checkpoint."""
    path_of_calibration(trained().testing).unlink()
    return trained
