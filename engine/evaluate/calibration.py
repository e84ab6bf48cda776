"""The thresholds and the colour scale, learnt on validation images, never on test ones."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cache import checked_dataset
from datasets.dataset import AnomalyDataset
from datasets.folders.find import ANOMALOUS, NORMAL, Split, find_split
from datasets.folders.volumes import Slicing
from datasets.foreground import without_background
from engine.evaluate.evaluate import create_batches, evaluate
from engine.evaluate.scorer import Scorer, create_scorer
from engine.evaluate.thresholds import (
    find_pixel_threshold,
    find_threshold,
    find_volume_threshold,
)
from engine.hub_files import beside_checkpoint, checkpoint_files
from engine.metrics.collectors import NormalPixels, PixelMetrics
from utils.checkpoints import file_digest, write_text
from utils.config.load import Config, ini_values
from utils.config.schema import TestingConfig, keys_of
from utils.errors import UserError
from utils.run_files import TrainingFiles, same_folder

logger = logging.getLogger(__name__)

_LOW_QUANTILE, _HIGH_QUANTILE = 0.5, 0.999
_HISTOGRAM_BINS = 40
_HALF = 16  # digits of a fingerprint that stand for the checkpoint, and for the scoring keys


@dataclass(frozen=True)
class ColourScale:
    """Pixel scores that become the two ends of the colour map, one pair for all images.

    Attributes:
        low: Half of the normal pixels lie below.
        high: One normal pixel in a thousand lies above.
        source: The images that it was learnt on.
    """

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class ScoreHistogram:
    """How the scores of validation images are spread, in bins of equal width.

    Attributes:
        low: Where the first bin begins.
        high: Where the last one ends.
        normal: Normal images in each bin.
        anomalous: Anomalous images in each bin.
    """

    low: float
    high: float
    normal: list[int]
    anomalous: list[int]


@dataclass(frozen=True)
class Calibration:
    """What validation images taught.

    Attributes:
        threshold: An image with this score or above is predicted anomalous.
        method: How the threshold was found.
        colours: The colour scale of anomaly maps.
        val_data_path: The validation folder.
        num_normal: Its normal images, those of background included, which are not learnt on.
        num_anomalous: Its anomalous images, likewise.
        fingerprint: Of checkpoint and scoring keys; another one needs another calibration.
        pixel_threshold: A pixel with this score or above is part of what is found.
        pixel_method: How it was found.
        volume_threshold: A volume with this score or above is predicted anomalous; None where
            validation has not both normal and anomalous volumes.
        histogram: Of the scores; None in files of earlier versions.
    """

    threshold: float
    method: str
    colours: ColourScale
    val_data_path: str
    num_normal: int
    num_anomalous: int
    fingerprint: str
    pixel_threshold: float | None = None
    pixel_method: str = ""
    volume_threshold: float | None = None
    histogram: ScoreHistogram | None = None

    def is_of(self, split: Split) -> bool:
        """Whether it was learnt on a split: its folder, and as many images of both classes."""
        same_counts = _counts(split) == (self.num_normal, self.num_anomalous)
        return same_counts and same_folder(Path(self.val_data_path), split.folder)


def _counts(split: Split) -> tuple[int, int]:
    """Normal and anomalous images, those of background included."""
    labels = [sample.label for sample in (*split.samples, *split.background)]
    return labels.count(NORMAL), labels.count(ANOMALOUS)


def calibration_path(config: TestingConfig) -> Path:
    """Where the calibration of a checkpoint is kept; that of a second scoring, apart from it."""
    return _path_of(config, fingerprint(config))


def _path_of(config: TestingConfig, own: str) -> Path:
    """The same; the fingerprint is given, since of large checkpoints it takes seconds."""
    path = beside_checkpoint(config, ".calibration.json")
    try:
        first = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError):
        return path
    if first != own and first[:_HALF] == own[:_HALF]:
        return path.with_suffix(f".{own[_HALF:]}.json")
    return path


def fingerprint(config: TestingConfig) -> str:
    """A digest of all that scores and thresholds depend on: checkpoint, then scoring keys."""
    roles = keys_of("TESTING")
    keys = {
        key: value for key, value in ini_values(config).items() if roles[key] in ("model", "score")
    }
    weights = "".join(map(file_digest, checkpoint_files(config)))
    parts = (weights, json.dumps(keys, sort_keys=True))
    return "".join(hashlib.sha256(part.encode()).hexdigest()[:_HALF] for part in parts)


def load_calibration(config: TestingConfig) -> Calibration | None:
    """The stored calibration of a checkpoint; None where there is none that fits the config.

    Raises:
        UserError: The file is damaged.
    """
    if not beside_checkpoint(config, ".calibration.json").is_file():
        return None
    own = fingerprint(config)
    path = _path_of(config, own)
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["colours"] = ColourScale(**content["colours"])
        if histogram := content.get("histogram"):
            content["histogram"] = ScoreHistogram(**histogram)
        calibration = Calibration(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: is damaged ({error}); delete it to have it made anew") from error
    if calibration.fingerprint == own:
        return calibration
    logger.info("%s was made for another checkpoint or scoring: not used", path)
    return None


def calibrate(scorer: Scorer, dataset: AnomalyDataset, config: TestingConfig) -> Calibration | None:
    """Score validation images, find thresholds and colour scale, and store them.

    The threshold of images is the one of best F1 where the split has both classes, the quantile
    THRESHOLD_QUANTILE of the normal scores where it has normal images only. That of pixels is the
    one of best Dice, all pixels pooled, where the split has masks that mark something, else the
    quantile PIXEL_QUANTILE of normal pixels. That of volumes is the one of best F1 where the split
    has volumes of both classes.

    Args:
        scorer: Scores as the test does.
        dataset: The validation split.
        config: The section [TESTING].

    Returns:
        The calibration; None, with a warning, where the split has no normal images.

    Raises:
        UserError: As for :func:`engine.evaluate.evaluate.evaluate`.
    """
    split = dataset.split
    if NORMAL not in split.labels:
        logger.warning("%s has no normal images: no threshold is learnt", split.folder)
        return None
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
    num_normal, num_anomalous = _counts(split)
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
        logger.info("threshold %.6g (%s of %s)", threshold, method, split.folder)
        _store(calibration, _path_of(config, calibration.fingerprint))
    return calibration


def _store(calibration: Calibration, path: Path) -> None:
    try:
        write_text(path, json.dumps(asdict(calibration), indent=2) + "\n")
    except UserError as error:  # a shared or read-only checkpoint
        logger.warning("%s; the threshold is learnt anew next time", error)


def _histogram(labels: np.ndarray, scores: np.ndarray) -> ScoreHistogram:
    edges = np.histogram_bin_edges(scores, _HISTOGRAM_BINS)
    normal, anomalous = (
        np.histogram(scores[labels == each], edges)[0].tolist() for each in (NORMAL, ANOMALOUS)
    )
    return ScoreHistogram(float(edges[0]), float(edges[-1]), normal, anomalous)


def colour_scale(pixels: NormalPixels, source: str) -> ColourScale:
    """The scale of the pixel scores of normal images.

    Args:
        pixels: The pixels of at least one normal image.
        source: What they are pixels of, in words.
    """
    low, high = pixels.quantile(_LOW_QUANTILE), pixels.quantile(_HIGH_QUANTILE)
    assert low is not None
    assert high is not None
    # A constant map has no scale of its own: any width shows it as it is, without contrast.
    return ColourScale(low, high if high > low else low + 1.0, source)


def calibration_for(config: Config, scorer: Scorer) -> Calibration | None:
    """The stored calibration, or a new one from the section [TRAINING]'s validation split.

    A stored one of other images, or of an earlier version, is used only where the split cannot be
    read. None, with a warning, where neither is to be had.
    """
    testing = config.need_testing()
    stored = load_calibration(testing)
    if config.training is None:
        if stored is None:
            logger.warning("no threshold: %s names no VAL_DATA_PATH in [TRAINING]", config.file)
        return stored
    try:
        split = find_split(
            config.training.val_data_path, key="VAL_DATA_PATH", slicing=Slicing.of(testing)
        )
    except UserError as error:
        if stored is None:
            logger.warning("no threshold is learnt: %s", error)
        return stored
    split = split.cut(config.training.max_samples_val, testing.seed)
    if stored is not None and stored.histogram and stored.is_of(split):
        return stored
    split = without_background(split, testing)
    # Each image is read once here: to keep them pays where training has done so, or another test.
    create = checked_dataset if testing.cache_images == "disk" else AnomalyDataset.of
    return calibrate(scorer, create(split, testing), testing)


def calibration_apart_from(folder: Path, calibration: Calibration | None) -> Calibration | None:
    """A calibration, unless it was learnt on the very images of ``folder``."""
    if calibration and same_folder(Path(calibration.val_data_path), folder):
        logger.warning(
            "no threshold is applied: VAL_DATA_PATH is the test set itself, %s; name a folder of "
            "other patients in TEST_DATA_PATH",
            folder,
        )
        return None
    return calibration


def calibrate_trained(config: Config) -> None:
    """Learn threshold and colour scale for the checkpoint that a training run has just written.

    Nothing is done where the config has no section [TESTING], or that tests another checkpoint.
    """
    if config.testing is None or config.training is None:
        return
    last, tested = TrainingFiles(config.training.results_path).last, config.testing.checkpoint_path
    if last.is_file() and isinstance(tested, Path) and tested.resolve() == last.resolve():
        # By the processes that are there.
        ours = {"devices": config.training.devices, "num_nodes": config.training.num_nodes}
        testing = config.testing.model_copy(update=ours)
        calibration_for(config, create_scorer(testing, file=config.file))
