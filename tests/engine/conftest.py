"""Calibrations of a tiny run that has been trained, and what they are compared with."""

from pathlib import Path

import numpy as np
import pytest

from datasets.dataset import AnomalyDataset
from datasets.folders.find import Split, find_split
from engine.evaluate.calibrate import calibration_for
from engine.evaluate.calibration_file import Calibration, calibration_path, fingerprint
from engine.evaluate.scorer import create_scorer
from utils.config.load import Config
from utils.config.schema import TestingConfig


def path_of_calibration(config: TestingConfig) -> Path:
    return calibration_path(config, fingerprint(config))


def calibrated(config: Config) -> Calibration:
    found = calibration_for(config, create_scorer(config.testing, file=config.file))
    assert isinstance(found, Calibration)
    return found


def scored(config: Config, split: Split | None = None) -> tuple[np.ndarray, ...]:
    """(N, H, W) maps and masks, (N,) labels and scores of images that are scored one by one.

    Args:
        split: Those of validation unless given.
    """
    scorer = create_scorer(config.testing, file=config.file)
    split = split or find_split(config.training.val_data_path, key="VAL_DATA_PATH")
    dataset = AnomalyDataset.of(split, config.testing)
    items = [dataset[index] for index in range(len(dataset))]
    batches = [scorer.score(item["image"][None], ["x"]) for item in items]
    maps = np.stack([batch.anomaly_maps[0].numpy() for batch in batches])
    masks = np.stack([item["mask"].numpy() for item in items])
    scores = np.array([float(batch.scores[0]) for batch in batches])
    return maps, masks, np.array(split.labels), scores


@pytest.fixture
def uncalibrated(trained):
    """As ``trained``, without the threshold that goes with the checkpoint."""
    path_of_calibration(trained().testing).unlink()
    return trained
