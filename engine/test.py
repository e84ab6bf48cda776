"""Testing: every image of a test set scored, measured, and shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from datasets.cache import checked_dataset
from datasets.dataset import AnomalyDataset
from datasets.folders.layout import ANOMALOUS, NORMAL, Split, find_split
from datasets.folders.volumes import of_volume
from engine.evaluate.calibration import (
    Calibration,
    ColourScale,
    calibration_apart_from,
    calibration_for,
    colour_scale,
)
from engine.evaluate.cases import Case, chosen_cases, render_cases
from engine.evaluate.evaluate import create_batches, evaluate
from engine.evaluate.scorer import Scorer, create_scorer
from engine.metrics.collectors import Collector, NormalPixels, PixelCollector
from engine.metrics.run_metrics import run_metrics, summary
from engine.report.charts import histogram_figure, roc_figure
from engine.report.gallery import gallery_indices
from engine.report.pages import TestRun, write_report
from engine.run_folder import check_results_folder
from engine.runtime import versions
from utils.checkpoints import file_digest, write_csv, write_text
from utils.config.load import Config, ini_text
from utils.config.schema import TestingConfig
from utils.errors import UserError
from utils.patients import patient_of
from utils.plots import CaseRow, plot_cases, save_figure
from utils.run_files import TestFiles, remove

logger = logging.getLogger(__name__)

CASES_EACH = 4
PIXEL_REPLICATES = 200


def test(config: Config) -> TestRun:
    """Score a test set and write scores.csv, the pictures, the report and metrics.json.

    Args:
        config: A config with a section [TESTING].

    Raises:
        UserError: Something the user can fix.
    """
    settings = config.need_testing()
    files = TestFiles(settings.results_path)
    check_results_folder(config, files.folder)
    split = _find_split(settings)
    group_of = _grouping(split, settings.patient_pattern)
    scorer = create_scorer(settings, file=config.file)
    dataset = checked_dataset(split, settings)
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
    metrics = run_metrics(
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
    )
    if scorer.fabric.is_global_zero:
        _write(run, scorer, dataset, files)
        print(summary(metrics))
        print(f"pictures and metrics: {files.report}")
    return run


def _find_split(settings: TestingConfig) -> Split:
    split = find_split(settings.test_data_path, key="TEST_DATA_PATH", axis=settings.slice_axis)
    split = of_volume(split, settings.volume_index)
    split = split.cut(settings.max_samples_test, settings.seed)
    if split.num_left_out:
        logger.warning(
            "MAX_SAMPLES_TEST = %d leaves out %d images: the metrics are not over the whole set",
            settings.max_samples_test,
            split.num_left_out,
        )
    return split


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


def _write(run: TestRun, scorer: Scorer, dataset: AnomalyDataset, files: TestFiles) -> None:
    folder, settings = files.folder, run.config.need_testing()
    # Metrics of an earlier test must not stand beside the new scores if this is cut short.
    for old in (files.metrics, files.report, files.scores):
        remove(old)
    write_text(files.config, ini_text(run.config))
    write_csv(files.scores, ("path", "label", "score", "predicted"), _score_rows(run))
    labels, scores = run.split.labels, run.scores
    roc = roc_figure(labels, scores, run.metrics["confusion"])
    histogram = histogram_figure(scores, labels, run.threshold)
    save_figure(roc, folder / "roc.png")
    save_figure(histogram, folder / "histogram.png")
    chosen = chosen_cases(labels, scores, each=CASES_EACH, seed=settings.seed)
    gallery = gallery_indices(
        labels, scores, run.threshold, limit=settings.report_images, seed=settings.seed
    )
    # Decoded and scored once more, together: the first time nothing was kept.
    wanted = sorted({*chain(*chosen.values()), *gallery})
    cases = render_cases(scorer, dataset, wanted, batch_size=settings.batch_size_test)
    rows = [
        _case_row(cases[index], kind, run.split.has_masks)
        for kind, indices in chosen.items()
        for index in indices
    ]
    plot_cases(rows, (run.colours.low, run.colours.high), folder / "cases.png")
    write_report(run, [cases[index] for index in gallery], roc, histogram, files.report)
    write_text(files.metrics, json.dumps(run.metrics, indent=2) + "\n")


def _score_rows(run: TestRun) -> Iterator[tuple[object, ...]]:
    for sample, score in zip(run.split.samples, run.scores, strict=True):
        predicted = None if run.threshold is None else int(score >= run.threshold)
        yield sample.name, sample.label, repr(score), predicted


def _case_row(case: Case, kind: str, has_masks: bool) -> CaseRow:
    truth = "anomalous" if case.label == ANOMALOUS else "normal"
    title = f"{kind}: {truth}\n{Path(case.name).stem[-24:]}\nscore {case.score:.4g}"
    mask = case.mask if has_masks else None
    return CaseRow(title, case.image, case.reconstruction, case.anomaly_map, mask)
