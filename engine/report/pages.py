"""The reports of a test and of a prediction: what they show and say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from engine.evaluate.cases import Case
from engine.metrics.run_metrics import Metrics
from engine.report.cards import gallery_note, prediction_card, shown_note, test_card
from engine.report.charts import NAMES, chart_svg, histogram_figure, precision_recall_figure
from engine.report.metric_rows import comparison_rows, metric_rows, metrics_note
from engine.report.render import render
from engine.report.runs import PredictionRun, TestRun
from engine.report.volume_cards import volume_cards, volumes_note
from engine.report.volumes import ScoredVolume
from engine.runtime.versions import versions
from utils.config.load import as_text, ini_text
from utils.config.schema import TestingConfig
from utils.files import write_text

# The three metrics that matter, on the first screen.
_WITH_MASKS = ("image_auroc", "pixel_auroc", "pixel_aupro")
_WITHOUT_MASKS = ("image_auroc", "image_ap", "image_sensitivity_at_95_specificity")


def write_report(
    run: TestRun,
    cases: Mapping[int, Case],
    roc: Figure,
    histogram: Figure,
    path: Path,
    volumes: Sequence[ScoredVolume] = (),
) -> None:
    """Write the report of a test.

    Args:
        run: The finished test.
        cases: The images of the gallery by their position in the split, the worst first.
        roc: The ROC curve; left out where a class is missing.
        histogram: The histogram of image scores.
        path: The HTML file.
        volumes: Those of the split, the highest score first.
    """
    metrics, settings = run.metrics, run.config.need_testing()
    charts, charts_missing = _test_charts(run, roc, histogram)
    rows = metric_rows(metrics)
    content = render(
        "test.html.j2",
        experiment=settings.experiment_name,
        facts=[("Images", _images(metrics)), ("Folder", str(run.split.folder)), *_model(settings)],
        numbers=[rows[key] for key in (_WITH_MASKS if run.split.has_masks else _WITHOUT_MASKS)],
        charts=charts,
        charts_missing=charts_missing,
        threshold=run.threshold,
        threshold_source=_threshold_source(run),
        confusion=metrics["confusion"],
        colours=run.colours,
        pixel_threshold=run.pixel_threshold,
        **_volumes(volumes, settings, run.threshold, metrics["volume_threshold"]),
        cards=[test_card(run, index, case) for index, case in cases.items()],
        cards_note=gallery_note(run, list(cases)),
        metrics=list(rows.values()),
        metrics_note=metrics_note(metrics, has_masks=run.split.has_masks),
        comparison=comparison_rows(metrics) if run.baseline else [],
        setup=[("seed", str(metrics["seed"])), *metrics["versions"].items()],
        config_text=ini_text(run.config),
    )
    write_text(path, content)


def write_prediction_report(run: PredictionRun, path: Path) -> None:
    """Write the report of a prediction as an HTML file."""
    settings, scores = run.config.need_testing(), run.scores
    title, charts = "Image scores", []
    if scores:
        charts = [(title, chart_svg(histogram_figure(scores, None, run.threshold), title))]
    content = render(
        "prediction.html.j2",
        experiment=settings.experiment_name,
        facts=_model(settings),
        numbers=_counts(run),
        errors=run.errors,
        charts=charts,
        charts_missing="" if charts else "No image was scored.",
        threshold=run.threshold,
        threshold_source=_prediction_threshold(run),
        colours=run.calibration.colours,
        pixel_threshold=run.calibration.pixel_threshold,
        **_volumes(run.volumes, settings, run.threshold, run.volume_threshold),
        cards=[prediction_card(run, case) for case in run.images],
        cards_note=shown_note(len(run.images), len(scores)),
        setup=[("seed", str(settings.seed)), *versions().items()],
        config_text=ini_text(run.config),
    )
    write_text(path, content)


def _volumes(
    volumes: Sequence[ScoredVolume],
    settings: TestingConfig,
    threshold: float | None,
    volume_threshold: float | None,
) -> dict[str, object]:
    rule = ""
    if volume_threshold is not None:
        rule = f" A volume is called anomalous at a score of {volume_threshold:.6g} or more."
    elif threshold is not None:
        rule = " A volume is called anomalous if its highest-scoring slice is."
    return {
        "volumes": volume_cards(volumes, threshold),
        "volumes_note": volumes_note(volumes) + rule,
        "slice_axis": settings.slice_axis,
    }


def _counts(run: PredictionRun) -> list[tuple[str, int]]:
    """What was predicted, in numbers for the first screen."""
    num_anomalous = sum(score >= run.threshold for score in run.scores)
    volumes = run.volumes
    of_volumes = [
        ("volumes", len(volumes)),
        ("anomalous volumes", sum(each.predicted == 1 for each in volumes)),
    ]
    return [
        *(of_volumes if volumes else []),
        ("images", len(run.scores)),
        ("called anomalous", num_anomalous),
        ("called normal", len(run.scores) - num_anomalous),
        ("errors", len(run.errors)),
    ]


def _prediction_threshold(run: PredictionRun) -> str:
    calibration = run.calibration
    if run.threshold != calibration.threshold:
        return "Set with --threshold, instead of the one learnt on validation images."
    return f"Learnt on validation images: {calibration.method} on {calibration.val_data_path}."


def _images(metrics: Metrics) -> str:
    """What was tested, as 192 (96 normal, 96 anomalous)."""
    parts = [f"{metrics['num_normal']:,} normal", f"{metrics['num_anomalous']:,} anomalous"]
    if metrics["interval_unit"] == "patient":
        parts.append(f"of {metrics['num_groups']:,} patients")
    if metrics["num_left_out"]:
        parts.append(f"{metrics['num_left_out']:,} more left out by MAX_SAMPLES_TEST")
    return f"{metrics['num_images']:,} ({', '.join(parts)})"


def _model(settings: TestingConfig) -> list[tuple[str, str]]:
    size = f"{settings.resize} × {settings.resize} pixels"
    return [
        ("Model", f"Q-Former Autoencoder on {', '.join(settings.model_name)}, {size}"),
        ("Checkpoint", as_text(settings.checkpoint_path)),
    ]


def _test_charts(
    run: TestRun, roc: Figure, histogram: Figure
) -> tuple[list[tuple[str, Markup]], str]:
    labels, scores = run.split.labels, run.scores
    charts = {"Image scores": histogram}
    missing = ""
    if len(set(labels)) < 2:
        name = NAMES[1 - labels[0]]
        missing = f"ROC and precision-recall curves need both classes, but no image is {name}."
    else:
        curve = precision_recall_figure(labels, scores, run.metrics["confusion"])
        charts = {"ROC curve": roc, "Precision-recall curve": curve} | charts
    return [(title, chart_svg(figure, title)) for title, figure in charts.items()], missing


def _threshold_source(run: TestRun) -> str:
    note = run.metrics["calibration"]
    if note is not None:
        return (
            f"Learnt on validation images, never on test ones: {note['method']} on "
            f"{note['num_normal']:,} normal and {note['num_anomalous']:,} anomalous images of "
            f"{note['val_data_path']}."
        )
    return f"There is no threshold: {run.no_threshold}."
