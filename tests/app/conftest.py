"""A tiny model for the page, trained once for each file of tests."""

from pathlib import Path

import pytest

from engine.evaluate.calibrate import calibrate_trained
from engine.predictor import Predictor
from engine.train.start import train
from tests.conftest import TINY
from utils.config.load import Config, load_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Config:
    """Of a model that was trained for one epoch on the phantoms."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "data").symlink_to(phantoms)
    file = folder / "tiny.ini"
    file.write_text(TINY.format(folder=folder).replace("N_EPOCHS = 4", "N_EPOCHS = 1"))
    config = load_config(file, [])
    train(config)
    calibrate_trained(config)
    return config


@pytest.fixture(scope="module")
def predictor(config: Config) -> Predictor:
    return Predictor.from_config(config)
