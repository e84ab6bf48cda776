"""A tiny run that has been trained and calibrated."""

import pytest

from engine.evaluate.calibration import calibrate_trained
from engine.train.start import train


@pytest.fixture
def trained(tiny):
    """Gives configs as ``tiny`` does, of a model that was trained for one epoch."""
    config = tiny("N_EPOCHS=1")
    train(config)
    calibrate_trained(config)
    return tiny
