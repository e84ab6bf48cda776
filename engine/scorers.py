"""What test and prediction share: the scorer of a config, and its calibration."""

from __future__ import annotations

import logging
from pathlib import Path

from datasets.anomaly_dataset import AnomalyDataset
from datasets.image_cache import checked_dataset
from datasets.layout import find_split
from datasets.volumes import of_volume
from engine.build import build_autoencoder, build_criteria
from engine.calibration import Calibration, calibrate, load_calibration
from engine.criterion_spec import CriterionSpec
from engine.evaluation import Reductions, Scorer
from engine.geometry import check_geometry
from engine.runtime import create_fabric, place
from engine.snapshot import check_snapshot
from utils.config import Config
from utils.errors import UserError
from utils.run_files import TrainingFiles, same_folder
from utils.schema import TestingConfig

logger = logging.getLogger(__name__)


def create_scorer(config: TestingConfig, *, file: str) -> Scorer:
    """Model and test criterion of a config, on the device.

    Raises:
        UserError: Config, checkpoint or weights are not as they should be.
    """
    check_geometry(config, ("VAL",), file=file, section="TESTING")
    if not config.checkpoint_path.is_file():
        raise UserError(
            f"CHECKPOINT_PATH: {config.checkpoint_path}: no such file; train first with "
            f"run_training.py --config {file}, or put a released checkpoint there"
        )
    check_snapshot(config, config.checkpoint_path, file=file, section="TESTING")
    fabric = create_fabric(config)
    model = build_autoencoder(config, config.checkpoint_path)
    model.drop_unused_blocks()
    (criterion,) = build_criteria(config, [CriterionSpec.of(config, "VAL")])
    place(fabric, model)
    place(fabric, criterion, keep_frozen=True)
    return Scorer(
        fabric,
        model,
        criterion,
        Reductions.of(config),
        static_batch=config.batch_size_test if config.compile else None,
    )


def calibration_for(config: Config, scorer: Scorer) -> Calibration | None:
    """The stored calibration, or a new one from the section [TRAINING]'s validation split.

    A stored one of other images is used only where the split cannot be read. None, with a warning,
    where neither is to be had.
    """
    testing = config.need_testing()
    stored = load_calibration(testing)
    if config.training is None:
        if stored is None:
            logger.warning("no threshold: %s names no VAL_DATA_PATH in [TRAINING]", config.file)
        return stored
    try:
        split = find_split(
            config.training.val_data_path, key="VAL_DATA_PATH", axis=testing.slice_axis
        )
    except UserError as error:
        if stored is None:
            logger.warning("no threshold is learnt: %s", error)
        return stored
    split = of_volume(split, testing.volume_index)
    split = split.cut(config.training.max_samples_val, testing.seed)
    if stored is not None and stored.is_of(split):
        return stored
    # Each image is read once here: to keep them pays where training has done so, or another test.
    create = checked_dataset if testing.cache_images == "disk" else AnomalyDataset.of
    return calibrate(scorer, create(split, testing), testing)


def calibration_apart_from(folder: Path, calibration: Calibration | None) -> Calibration | None:
    """A calibration, unless it was learnt on the very images of ``folder``."""
    if calibration and same_folder(Path(calibration.val_data_path), folder):
        logger.warning("no threshold is applied: VAL_DATA_PATH is the test set itself, %s", folder)
        return None
    return calibration


def calibrate_trained(config: Config) -> None:
    """Learn threshold and colour scale for the checkpoint that a training run has just written.

    Nothing is done where the config has no section [TESTING], or that tests another checkpoint.
    """
    if config.testing is None or config.training is None:
        return
    last = TrainingFiles(config.training.results_path).last
    if last.is_file() and config.testing.checkpoint_path.resolve() == last.resolve():
        # By the processes that are there.
        ours = {"devices": config.training.devices, "num_nodes": config.training.num_nodes}
        testing = config.testing.model_copy(update=ours)
        calibration_for(config, create_scorer(testing, file=config.file))
