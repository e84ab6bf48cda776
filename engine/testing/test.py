"""Testing: every image of a test set scored, measured, and shown."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from datasets.cache import checked_dataset
from datasets.folders.find import NORMAL, Split, find_split
from datasets.folders.slicing import Slicing
from datasets.foreground import without_background
from datasets.patients import patients_of
from engine.evaluate.baseline import baseline_for
from engine.evaluate.calibrate import calibration_apart_from, colour_scale
from engine.evaluate.calibration_file import Calibration, ColourScale
from engine.evaluate.ensemble import calibrated_scorer
from engine.evaluate.evaluate import create_batches, evaluate
from engine.evaluate.volume_metrics import add_volume_metrics
from engine.evaluate.volumes import volumes_of
from engine.hub_files import checkpoint_files
from engine.metrics.bootstrap import Replicates, score_replicates
from engine.metrics.collectors import Collector, NormalPixels, PixelMetrics
from engine.metrics.curves import image_metrics
from engine.metrics.run_metrics import Metrics, add_baseline_metrics, run_metrics
from engine.metrics.volume_dice import VolumeDice
from engine.report.runs import BaselineRun, TestRun
from engine.run_folder import check_results_folder
from engine.runtime.versions import versions
from engine.testing.results import write_test_results
from engine.testing.summary import summary
from utils.config.load import Config, as_text
from utils.config.schema import TestingConfig
from utils.files import file_digest
from utils.run_files import TestFiles

logger = logging.getLogger(__name__)

PIXEL_REPLICATES = 200


def test(config: Config) -> TestRun:
    """Score a test set and write scores.csv, the pictures, the report and metrics.json."""
    settings = config.need_testing()
    files = TestFiles(settings.results_path)
    check_results_folder(config, files.folder)
    split = _find_split(settings)
    count = len(split.samples)
    patients = patients_of((*split.samples, *split.background), settings.patient_pattern)
    named = patients[:count] if patients and settings.patient_pattern else None
    groups = named or _groups(split)
    dataset = checked_dataset(split, settings)
    scorer, learnt = calibrated_scorer(config)
    if isinstance(learnt, Calibration):
        learnt = calibration_apart_from(settings.test_data_path, learnt)
    calibration = learnt if isinstance(learnt, Calibration) else None
    if calibration is None:
        logger.warning("no threshold: %s", learnt)
    if settings.baseline != "none":
        scorer = replace(scorer, baseline=baseline_for(config, scorer))
    model = _Gathered(split, groups, settings.seed)
    baseline = _Gathered(split, groups, settings.seed) if scorer.baseline else None
    dice = _volume_dice(split, calibration)
    found = evaluate(
        scorer,
        dataset,
        create_batches(scorer.runtime, dataset, settings),
        description="test",
        collectors=[*model.collectors, *dice],
        baseline_collectors=baseline.collectors if baseline else (),
    )
    scores = found.model
    threshold = calibration.threshold if calibration else None
    drawn = model.replicates(scores)
    metrics = run_metrics(split, scores, model.pixel, drawn, groups=groups, threshold=threshold)
    overlap = {name: value for each in dice for name, value in each.compute().items()}
    reduction, seed = settings.volume_reduction, settings.seed
    add_volume_metrics(metrics, split, scores, patients, overlap, reduction=reduction, seed=seed)
    metrics["interval_unit"] = "patient" if named else "volume" if volumes_of(split) else "image"
    metrics |= _provenance(settings, calibration)
    shown = None
    if baseline and found.baseline:
        values = image_metrics(split.labels, found.baseline) | baseline.pixel.compute()
        add_baseline_metrics(metrics, values, drawn, baseline.replicates(found.baseline))
        shown = BaselineRun(found.baseline, baseline.colours())
    colours = calibration.colours if calibration else model.colours()
    run = TestRun(
        config, split, scores, metrics, colours, shown, "" if calibration else str(learnt)
    )
    if scorer.runtime.is_global_zero:
        write_test_results(run, scorer, dataset, files)
        logger.info(summary(metrics, files))
    return run


class _Gathered:
    """What is gathered from the maps of the model, or of its baseline."""

    def __init__(self, split: Split, groups: Sequence[str], seed: int) -> None:
        self.pixel = PixelMetrics(groups, seed=seed, replicates=PIXEL_REPLICATES)
        self._split, self._groups, self._seed = split, groups, seed
        self._normal_pixels = NormalPixels(split.labels)
        masked = [self.pixel] if split.has_masks else []
        self.collectors: list[Collector] = [self._normal_pixels, *masked]

    def replicates(self, scores: Sequence[float]) -> Replicates:
        """Those of the bootstrap, of images and of pixels."""
        of_images = score_replicates(self._split.labels, scores, self._groups, seed=self._seed)
        return of_images | self.pixel.replicates()

    def colours(self) -> ColourScale:
        """A scale for maps without a calibration."""
        if NORMAL not in self._split.labels:
            return ColourScale(
                0.0, 1.0, "a fixed range, as there are no normal images to learn from"
            )
        return colour_scale(self._normal_pixels, "normal test images, for display only")


def _find_split(settings: TestingConfig) -> Split:
    slicing = Slicing.of(settings)
    split = find_split(settings.test_data_path, key="TEST_DATA_PATH", slicing=slicing)
    split = split.cut(settings.max_samples_test, settings.seed, whole_volumes=True)
    if split.num_left_out:
        logger.warning(
            "MAX_SAMPLES_TEST = %d leaves out %d images: the metrics do not cover the whole set",
            settings.max_samples_test,
            split.num_left_out,
        )
    return without_background(split, settings)


def _groups(split: Split) -> list[str]:
    """What the bootstrap draws where patients are not known: volumes, and pictures by themselves.

    Slices of a volume are similar: drawn one by one, intervals would be too narrow.
    """
    first: dict[object, int] = {}
    return [
        # By number: draws follow from names, and paths differ from machine to machine.
        str(first.setdefault(sample.volume_name or index, index))
        for index, sample in enumerate(split.samples)
    ]


def _volume_dice(split: Split, calibration: Calibration | None) -> list[VolumeDice]:
    """What measures the overlap of anomalous volumes; none without masks or pixel threshold."""
    threshold = calibration.pixel_threshold if calibration else None
    slices = {
        index: each.name for each in volumes_of(split) if each.label for index in each.indices
    }
    if threshold is None or not split.has_masks or not slices:
        return []
    return [VolumeDice(split.samples, slices, threshold, split.background)]


def _provenance(settings: TestingConfig, calibration: Calibration | None) -> Metrics:
    """What metrics.json says about how the metrics were made."""
    digests = [file_digest(each) for each in checkpoint_files(settings)]
    return {
        "volume_threshold": calibration.volume_threshold if calibration else None,
        "pixel_threshold": calibration.pixel_threshold if calibration else None,
        "calibration": calibration and _noted(calibration),
        "checkpoint": as_text(settings.checkpoint_path),
        "checkpoint_sha256": digests if len(digests) > 1 else digests[0],
        "seed": settings.seed,
        "versions": versions(),
    }


def _noted(calibration: Calibration) -> Metrics:
    """How the thresholds were found, and on how many images that were scored."""
    return {
        "method": calibration.method,
        "val_data_path": calibration.val_data_path,
        "num_normal": sum(calibration.histogram["normal"]),
        "num_anomalous": sum(calibration.histogram["anomalous"]),
        "pixel_method": calibration.pixel_method,
    }
