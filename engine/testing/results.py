"""The files of a test: scores.csv, metrics.json, pictures, report.html."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import chain

from datasets.dataset import AnomalyDataset
from engine.evaluate.cases import chosen_cases, render_cases, worst_first
from engine.evaluate.scorer import Scorer
from engine.evaluate.volumes import volumes_of
from engine.report.cards import GALLERY_PART
from engine.report.charts import histogram_figure, roc_figure
from engine.report.pages import write_report
from engine.report.pictures import plot_cases
from engine.report.runs import TestRun
from engine.report.tested_volumes import slices_to_show, tested_volumes
from utils.config.load import ini_text
from utils.files import write_csv, write_text
from utils.plots import save_figure
from utils.run_files import TestFiles, remove

# The worst, the best and random ones, as many of each.
_CASES = 12
_VOLUME_COLUMNS = (
    *("path", "label", "score", "predicted"),
    *("num_slices", "num_anomalous", "worst_slice"),
)


def write_test_results(
    run: TestRun, scorer: Scorer, dataset: AnomalyDataset, files: TestFiles
) -> None:
    """Write all files of a test; metrics.json last: if it exists, the test is finished."""
    settings = run.config.need_testing()
    # If this is cut short, the new scores must not have metrics of an earlier test beside them.
    for old in (files.metrics, files.report, files.volumes, files.scores):
        remove(old)
    write_text(files.config, ini_text(run.config))
    columns = ("path", "label", "score", "predicted", *(["baseline_score"] if run.baseline else []))
    write_csv(files.scores, columns, _score_rows(run))
    if rows := list(_volume_rows(run)):
        write_csv(files.volumes, _VOLUME_COLUMNS, rows)
    labels, scores = run.split.labels, run.scores
    roc = roc_figure(labels, scores, run.metrics["confusion"])
    histogram = histogram_figure(scores, labels, run.threshold)
    save_figure(roc, files.roc)
    save_figure(histogram, files.histogram)
    order = worst_first(labels, scores, run.threshold)
    chosen = chosen_cases(order, labels, limit=_CASES, part=3, seed=settings.seed)
    limit = settings.report_images
    gallery = chosen_cases(order, labels, limit=limit, part=GALLERY_PART, seed=settings.seed)
    # Decoded and scored again: nothing was kept the first time.
    wanted = sorted({*chain(*chosen.values(), *gallery.values())})
    render = partial(render_cases, scorer, dataset, batch_size=settings.batch_size_test)
    cases = dict(render(wanted))
    examples = {kind: [cases[index] for index in each] for kind, each in chosen.items()}
    plot_cases(
        examples,
        run.colours,
        files.cases,
        pixel_threshold=run.pixel_threshold,
        baseline_colours=run.baseline.colours if run.baseline else None,
    )
    shown = {*chain(*gallery.values())}
    volumes = tested_volumes(run, render(slices_to_show(run)))
    in_gallery = {index: cases[index] for index in order if index in shown}
    write_report(run, in_gallery, roc, histogram, files.report, volumes)
    write_text(files.metrics, json.dumps(run.metrics, indent=2) + "\n")


def _score_rows(run: TestRun) -> Iterator[tuple[object, ...]]:
    for index, (sample, score) in enumerate(zip(run.split.samples, run.scores, strict=True)):
        predicted = None if run.threshold is None else int(score >= run.threshold)
        baseline = [run.baseline.scores[index]] if run.baseline else []
        yield sample.name, sample.label, score, predicted, *baseline


def _volume_rows(run: TestRun) -> Iterator[tuple[object, ...]]:
    for volume in volumes_of(run.split):
        cells = run.volume_rule.cells(volume.slice_scores(run.scores))
        worst = volume.worst(run.scores)
        frame = None if worst is None else run.split.samples[worst].frame
        yield volume.name, volume.label, *cells, frame
