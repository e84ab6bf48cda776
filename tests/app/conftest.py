"""A tiny model for the page, read once for each file of tests."""

import shutil
import socket

import pytest

from engine.predictor import Predictor
from tests.conftest import tiny_in


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def config(tmp_path_factory, phantoms, run_of_one_epoch):
    """Of a model that was trained for one epoch on the phantoms."""
    folder = tmp_path_factory.mktemp("page")
    # A copy: some tests calibrate anew.
    shutil.copytree(run_of_one_epoch, folder / "results")
    return tiny_in(folder, phantoms)("N_EPOCHS=1")


@pytest.fixture(scope="module")
def predictor(config):
    return Predictor.from_config(config)
