"""The files of a test: scores.csv, metrics.json, pictures, report.html."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from datasets.dataset import AnomalyDataset
from datasets.folders.samples import ANOMALOUS
from engine.evaluate.cases import Case, chosen_cases, render_cases
from engine.evaluate.scorer import Scorer
from engine.report.charts import histogram_figure, roc_figure
from engine.report.gallery import gallery_indices
from engine.report.pages import TestRun, write_report
from utils.checkpoints import write_csv, write_text
from utils.config.load import ini_text
from utils.plots import CaseRow, plot_cases, save_figure
from utils.run_files import TestFiles, remove

# Cases of each kind (worst, best, random) in cases.png.
CASES_EACH = 4


def write_test_results(
    run: TestRun, scorer: Scorer, dataset: AnomalyDataset, files: TestFiles
) -> None:
    """Write all files of a test; metrics.json last, so that its presence means: finished.

    Args:
        run: The finished test.
        scorer: Scores the shown images once more, for their pictures.
        dataset: The test images.
        files: Where they go.

    Raises:
        UserError: A file cannot be written, or an image not read any more.
    """
    settings = run.config.need_testing()
    # Metrics of an earlier test must not stand beside the new scores if this is cut short.
    for old in (files.metrics, files.report, files.scores):
        remove(old)
    write_text(files.config, ini_text(run.config))
    write_csv(files.scores, ("path", "label", "score", "predicted"), _score_rows(run))
    labels, scores = run.split.labels, run.scores
    roc = roc_figure(labels, scores, run.metrics["confusion"])
    histogram = histogram_figure(scores, labels, run.threshold)
    save_figure(roc, files.roc)
    save_figure(histogram, files.histogram)
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
    plot_cases(rows, (run.colours.low, run.colours.high), files.cases)
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
