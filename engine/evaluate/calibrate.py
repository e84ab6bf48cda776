"""Learning thresholds and colour scale on validation images, never on test ones."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cache import checked_dataset
from datasets.dataset import AnomalyDataset
from datasets.folders.find import ANOMALOUS, NORMAL, find_split
from datasets.folders.slicing import Slicing
from datasets.foreground import without_background
from engine.evaluate.calibration_file import (
    Calibration,
    ColourScale,
    class_counts,
    fingerprint,
    load_calibration,
    store_calibration,
)
from engine.evaluate.evaluate import create_batches, evaluate
from engine.evaluate.scorer import Scorer, create_scorer
from engine.evaluate.thresholds import find_pixel_threshold, find_threshold, find_volume_threshold
from engine.metrics.collectors import NormalPixels, PixelMetrics
from utils.config.load import Config, as_text
from utils.config.schema import TestingConfig
from utils.errors import UserError
from utils.run_files import TrainingFiles, same_folder

logger = logging.getLogger(__name__)

_LOW_QUANTILE, _HIGH_QUANTILE = 0.5, 0.999
_HISTOGRAM_BINS = 40


def calibrate(scorer: Scorer, dataset: AnomalyDataset, config: TestingConfig) -> Calibration | str:
    """Score validation images, find thresholds and colour scale, and store them.

    The threshold of images is the one of best F1 where the split has both classes, the quantile
    THRESHOLD_QUANTILE of the normal scores where it has normal images only. That of pixels is the
    one of best Dice, all pixels pooled, where the split has masks that mark something, else the
    quantile PIXEL_QUANTILE of normal pixels. That of volumes is the one of best F1 where the split
    has volumes of both classes.

    Returns:
        The calibration, or why there is none.
    """
    split = dataset.split
    if NORMAL not in split.labels:
        return f"{split.folder} has no normal images to learn from"
    normal_pixels, marked_pixels = NormalPixels(split.labels), PixelMetrics()
    scores = evaluate(
        scorer,
        dataset,
        create_batches(scorer.runtime, dataset, config),
        description="calibration",
        collectors=[normal_pixels, marked_pixels] if split.has_masks else [normal_pixels],
    ).model
    labels = np.asarray(split.labels)
    threshold, method = find_threshold(labels, np.asarray(scores), config.threshold_quantile)
    pixel_threshold, pixel_method = find_pixel_threshold(
        marked_pixels, normal_pixels, config.pixel_quantile
    )
    num_normal, num_anomalous = class_counts(split)
    calibration = Calibration(
        threshold=threshold,
        method=method,
        colours=colour_scale(normal_pixels, f"normal images of {split.folder}"),
        val_data_path=str(split.folder),
        num_normal=num_normal,
        num_anomalous=num_anomalous,
        fingerprint=fingerprint(config),
        pixel_threshold=pixel_threshold,
        pixel_method=pixel_method,
        volume_threshold=find_volume_threshold(split, scores, config.volume_reduction),
        histogram=_histogram(labels, np.asarray(scores)),
    )
    if scorer.runtime.is_global_zero:
        tested = as_text(config.checkpoint_path)  # of an ensemble, each has a threshold
        logger.info(
            "threshold %.6g for %s, learnt on %s (%s)", threshold, tested, split.folder, method
        )
        store_calibration(calibration, config)
    return calibration


def _histogram(labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    edges = np.histogram_bin_edges(scores, _HISTOGRAM_BINS)
    normal, anomalous = (
        np.histogram(scores[labels == each], edges)[0].tolist() for each in (NORMAL, ANOMALOUS)
    )
    ends = {"low": float(edges[0]), "high": float(edges[-1])}
    return ends | {"normal": normal, "anomalous": anomalous}


def colour_scale(pixels: NormalPixels, source: str) -> ColourScale:
    """The scale of the pixel scores of normal images."""
    low, high = pixels.quantile(_LOW_QUANTILE), pixels.quantile(_HIGH_QUANTILE)
    # A constant map has no scale: any width shows it as it is, without contrast.
    return ColourScale(low, high if high > low else low + 1.0, source)


def calibration_for(config: Config, scorer: Scorer) -> Calibration | str:
    """The stored calibration, or a new one from the section [TRAINING]'s validation split.

    A stored one of other images is used only if the split cannot be read.

    Returns:
        The calibration, or why there is none.
    """
    testing = config.need_testing()
    stored = load_calibration(testing)
    if config.training is None:
        return stored or f"{config.file} has no VAL_DATA_PATH in [TRAINING]"
    try:
        split = find_split(
            config.training.val_data_path, key="VAL_DATA_PATH", slicing=Slicing.of(testing)
        )
    except UserError as error:
        return stored or str(error)
    split = split.cut(config.training.max_samples_val, testing.seed, whole_volumes=True)
    if stored is not None and stored.is_of(split):
        return stored
    split = without_background(split, testing)
    # Each image is read once here: caching pays only if training or another test uses the cache.
    create = checked_dataset if testing.cache_images == "disk" else AnomalyDataset.of
    return calibrate(scorer, create(split, testing), testing)


def calibration_apart_from(folder: Path, calibration: Calibration) -> Calibration | str:
    """A calibration, or why it is not used: it was learnt on the very images of ``folder``."""
    if same_folder(Path(calibration.val_data_path), folder):
        return (
            f"VAL_DATA_PATH is the test set itself, {folder}, so results would look too good; "
            "set TEST_DATA_PATH to a folder of other patients"
        )
    return calibration


def calibrate_trained(config: Config) -> None:
    """Learn threshold and colour scale for the checkpoint that a training run has just written.

    Nothing is done if the config has no section [TESTING], or that tests another checkpoint.
    What is wrong for testing is only a warning: the training has succeeded.
    """
    if config.testing is None or config.training is None:
        return
    last, tested = TrainingFiles(config.training.results_path).last, config.testing.checkpoint_path
    if last.is_file() and isinstance(tested, Path) and tested.resolve() == last.resolve():
        # With the processes that are running.
        ours = ("device", "devices", "num_nodes")
        update = {name: getattr(config.training, name) for name in ours}
        testing = config.testing.model_copy(update=update)
        try:
            found = calibration_for(config, create_scorer(testing, file=config.file))
        except UserError as error:
            found = str(error)
        if isinstance(found, str):
            logger.warning("no threshold has been learnt yet: %s", found)
