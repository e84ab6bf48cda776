"""Testing: every image of a test set scored, measured, and shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.anomaly_dataset import AnomalyDataset
from datasets.image_cache import verified_dataset
from datasets.layout import ANOMALOUS, NORMAL, Split, find_split
from datasets.volumes import of_volume
from engine.calibration import Calibration, ColourScale, colour_scale
from engine.cases import Case, chosen_cases, render_cases
from engine.collectors import Collector, NormalPixels, PixelCollector
from engine.evaluation import Scorer, create_batches, evaluate
from engine.figures import Metrics, figures
from engine.reporting import write_report
from engine.results_folder import check_results_folder
from engine.runtime import versions
from engine.scorers import calibration_apart_from, calibration_for, create_scorer
from utils.checkpoints import file_digest, write_csv, write_text
from utils.config import Config, ini_text
from utils.errors import UserError
from utils.patients import patient_of
from utils.plots import CaseRow, plot_cases, plot_histogram, plot_roc
from utils.run_files import TestFiles, remove

logger = logging.getLogger(__name__)

CASES_EACH = 4
PIXEL_REPLICATES = 200


@dataclass(frozen=True)
class TestRun:
    """A finished test run, for its files and its report.

    Attributes:
        config: The configuration.
        split: The test images.
        scores: One a sample.
        metrics: The content of metrics.json.
        threshold: Learnt on validation images, None where there is none.
        colours: The colour scale of all maps.
        scorer: What scored, to render cases.
        dataset: The test images as tensors.
    """

    __test__ = False

    config: Config
    split: Split
    scores: list[float]
    metrics: Metrics
    threshold: float | None
    colours: ColourScale
    scorer: Scorer
    dataset: AnomalyDataset


def test(config: Config) -> TestRun:
    """Score a test set and write scores.csv, the pictures, the report and metrics.json.

    Args:
        config: A config with a section [TESTING].

    Raises:
        UserError: Something the user can mend.
    """
    settings = config.need_testing()
    files = TestFiles(settings.results_path)
    check_results_folder(config, files.folder)
    split = find_split(settings.test_data_path, key="TEST_DATA_PATH", axis=settings.slice_axis)
    split = of_volume(split, settings.volume_index)
    split = split.cut(settings.max_samples_test, settings.seed)
    if split.num_left_out:
        logger.warning(
            "MAX_SAMPLES_TEST = %d leaves out %d images: the figures are not over the whole set",
            settings.max_samples_test,
            split.num_left_out,
        )
    group_of = _grouping(split, settings.patient_pattern)
    scorer = create_scorer(settings, file=config.file)
    dataset = verified_dataset(split, settings)
    calibration = calibration_apart_from(settings.test_data_path, calibration_for(config, scorer))
    pixel = PixelCollector(settings.seed, PIXEL_REPLICATES, group_of)
    normal_pixels = NormalPixels(split.labels)
    collectors: list[Collector] = [normal_pixels]
    scores = evaluate(
        scorer,
        dataset,
        create_batches(scorer.fabric, dataset, settings),
        description="test",
        collectors=[*collectors, pixel] if split.has_masks else collectors,
    )
    threshold = calibration.threshold if calibration else None
    metrics = figures(
        split,
        scores,
        pixel.metrics if split.has_masks else None,
        groups=[group_of(index) for index in range(len(scores))],
        threshold=threshold,
        seed=settings.seed,
    )
    metrics |= {
        "interval_unit": "patient" if settings.patient_pattern else "image",
        "calibration": _calibration_note(calibration),
        "checkpoint": str(settings.checkpoint_path),
        "checkpoint_sha256": file_digest(settings.checkpoint_path),
        "seed": settings.seed,
        "versions": versions(),
    }
    run = TestRun(
        config=config,
        split=split,
        scores=scores,
        metrics=metrics,
        threshold=threshold,
        colours=calibration.colours if calibration else _own_scale(normal_pixels, split),
        scorer=scorer,
        dataset=dataset,
    )
    if scorer.fabric.is_global_zero:
        _write(run, files)
    return run


def _grouping(split: Split, pattern: str | None) -> Callable[[int], str]:
    """Sample index to bootstrap group: the patient, or else the image itself.

    Raises:
        UserError: PATIENT_PATTERN does not match a file name.
    """
    if pattern is None:
        return str
    try:
        groups = [patient_of(sample.stem, pattern) for sample in split.samples]
    except ValueError as error:
        raise UserError(f"PATIENT_PATTERN: {error}") from error
    return groups.__getitem__


def _own_scale(normal_pixels: NormalPixels, split: Split) -> ColourScale:
    if NORMAL not in split.labels:
        return ColourScale(0.0, 1.0, "fixed: there are no normal images to learn from")
    return colour_scale(normal_pixels, "normal test images, for display only")


def _calibration_note(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    return {
        "method": calibration.method,
        "val_data_path": calibration.val_data_path,
        "num_normal": calibration.num_normal,
        "num_anomalous": calibration.num_anomalous,
    }


def _write(run: TestRun, files: TestFiles) -> None:
    folder = files.folder
    # Figures of an earlier test must not stand beside the new scores if this is cut short.
    for old in (files.metrics, files.report, files.scores):
        remove(old)
    write_text(files.config, ini_text(run.config))
    write_csv(files.scores, ("path", "label", "score", "predicted"), _score_rows(run))
    labels, scores = np.asarray(run.split.labels), np.asarray(run.scores)
    plot_roc(labels, scores, run.metrics["image_auroc"], folder / "roc.png")
    plot_histogram(labels, scores, run.threshold, folder / "histogram.png")
    plot_cases(_case_rows(run), (run.colours.low, run.colours.high), folder / "cases.png")
    write_report(run, files.report)
    write_text(files.metrics, json.dumps(run.metrics, indent=2) + "\n")


def _score_rows(run: TestRun) -> Iterator[tuple[object, ...]]:
    for sample, score in zip(run.split.samples, run.scores, strict=True):
        predicted = None if run.threshold is None else int(score >= run.threshold)
        yield sample.name, sample.label, repr(score), predicted


def _case_rows(run: TestRun) -> list[CaseRow]:
    settings = run.config.need_testing()
    chosen = chosen_cases(run.split.labels, run.scores, each=CASES_EACH, seed=settings.seed)
    kinds = {index: kind for kind, indices in chosen.items() for index in indices}
    cases = render_cases(run.scorer, run.dataset, list(kinds), batch_size=settings.batch_size_test)
    return [_case_row(case, kinds[case.index], run.split.has_masks) for case in cases]


def _case_row(case: Case, kind: str, has_masks: bool) -> CaseRow:
    truth = "anomalous" if case.label == ANOMALOUS else "normal"
    title = f"{kind}: {truth}\n{Path(case.name).stem[-24:]}\nscore {case.score:.4g}"
    mask = case.mask if has_masks else None
    return CaseRow(title, case.image, case.reconstruction, case.anomaly_map, mask)
