"""The reports of a test and of a prediction: what they show and say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from datasets.folders.find import Split
from engine.evaluate.calibration import Calibration, ColourScale
from engine.evaluate.cases import Case, is_wrong
from engine.metrics.run_metrics import Metrics
from engine.report.charts import NAMES, chart_svg, histogram_figure, precision_recall_figure
from engine.report.metric_rows import comparison_rows, metric_rows
from engine.report.pictures import map_layer, outline_path, picture
from engine.report.render import render
from engine.runtime import versions
from utils.checkpoints import write_text
from utils.config.load import Config, as_text, ini_text
from utils.config.schema import TestingConfig
from utils.run_files import same_folder

# The three metrics that matter, on the first screen.
_WITH_MASKS = ("image_auroc", "pixel_auroc", "pixel_aupro")
_WITHOUT_MASKS = ("image_auroc", "image_ap", "image_sensitivity_at_95_specificity")

GALLERY_PART = 5
"""One in so many images of a gallery is one of the best, and one in so many is a random one."""


@dataclass(frozen=True)
class BaselineRun:
    """What a baseline says of the same images.

    Attributes:
        scores: One per image.
        colours: The colour scale of its maps, from normal test images: for display only.
    """

    scores: list[float]
    colours: ColourScale


@dataclass(frozen=True)
class TestRun:
    """A finished test run, as its files and its report show it.

    Attributes:
        config: The configuration.
        split: The test images.
        scores: One per image.
        metrics: The content of metrics.json.
        threshold: Learnt on validation images, None where there is none.
        colours: The colour scale of all maps.
        pixel_threshold: Pixels with this score or above are outlined; None where there is none.
        baseline: The same images by the baseline, None where there is none.
    """

    __test__ = False

    config: Config
    split: Split
    scores: list[float]
    metrics: Metrics
    threshold: float | None
    colours: ColourScale
    pixel_threshold: float | None = None
    baseline: BaselineRun | None = None


def write_report(
    run: TestRun, cases: Mapping[int, Case], roc: Figure, histogram: Figure, path: Path
) -> None:
    """Write the report of a test.

    Args:
        run: The finished test.
        cases: The images of the gallery by their position in the split, the worst first.
        roc: The ROC curve; left out where a class is missing.
        histogram: The histogram of image scores.
        path: The HTML file.

    Raises:
        UserError: The report cannot be written.
    """
    metrics, settings = run.metrics, run.config.need_testing()
    charts, charts_missing = _test_charts(run, roc, histogram)
    rows = metric_rows(metrics)
    content = render(
        "test.html.j2",
        experiment=settings.experiment_name,
        facts=[
            ("Images", _images(metrics)),
            ("Folder", str(run.split.folder)),
            *_model(settings),
        ],
        numbers=[rows[key] for key in (_WITH_MASKS if run.split.has_masks else _WITHOUT_MASKS)],
        charts=charts,
        charts_missing=charts_missing,
        threshold=run.threshold,
        threshold_source=_threshold_source(run),
        confusion=metrics["confusion"],
        colours=run.colours,
        pixel_threshold=run.pixel_threshold,
        cards=[_test_card(run, index, case) for index, case in cases.items()],
        cards_note=_gallery_note(run, list(cases)),
        metrics=list(rows.values()),
        metrics_note=_metrics_note(metrics, has_masks=run.split.has_masks),
        comparison=comparison_rows(metrics) if run.baseline else [],
        setup=[("seed", str(metrics["seed"])), *metrics["versions"].items()],
        config_text=ini_text(run.config),
    )
    write_text(path, content)


def write_prediction_report(
    config: Config,
    calibration: Calibration,
    scores: Sequence[float],
    images: Sequence[Case],
    unreadable: Sequence[tuple[str, str]],
    path: Path,
    *,
    pixel_threshold: float | None = None,
) -> None:
    """Write the report of a prediction.

    Args:
        config: A config with a section [TESTING].
        calibration: Threshold and colour scale.
        scores: Of all images that could be read.
        images: Those that the gallery shows, the highest score first.
        unreadable: Path and error of each file that could not be read.
        path: The HTML file.
        pixel_threshold: Pixels with this score or above are outlined; None where there is none.

    Raises:
        UserError: The report cannot be written.
    """
    settings, threshold = config.need_testing(), calibration.threshold
    num_anomalous = sum(score >= threshold for score in scores)
    title, charts = "Image scores", []
    if scores:
        charts = [(title, chart_svg(histogram_figure(scores, None, threshold), title))]
    content = render(
        "prediction.html.j2",
        experiment=settings.experiment_name,
        facts=_model(settings),
        numbers=[
            ("images", len(scores)),
            ("called anomalous", num_anomalous),
            ("called normal", len(scores) - num_anomalous),
            ("not readable", len(unreadable)),
        ],
        unreadable=unreadable,
        charts=charts,
        charts_missing="" if charts else "No image was scored.",
        threshold=threshold,
        threshold_source=(
            f"Learnt on validation images: {calibration.method} on {calibration.val_data_path}."
        ),
        colours=calibration.colours,
        pixel_threshold=pixel_threshold,
        cards=[
            _card(case, calibration.colours, pixel_threshold)
            | dict.fromkeys(("verdict", "group"), NAMES[case.score >= threshold])
            for case in images
        ],
        cards_note=_shown_note(len(images), len(scores)),
        setup=[("seed", str(settings.seed)), *versions().items()],
        config_text=ini_text(config),
    )
    write_text(path, content)


def _test_card(run: TestRun, index: int, case: Case) -> dict[str, object]:
    # The score of the table: scored again in another batch, its last digits may differ.
    label, score, verdict = run.split.labels[index], run.scores[index], "none"
    if run.threshold is not None:
        right = "f" if is_wrong(label, score, run.threshold) else "t"
        verdict = right + ("p" if score >= run.threshold else "n")
    baseline = run.baseline.colours if run.baseline else None
    return _card(case, run.colours, run.pixel_threshold, baseline) | {
        "score": score,
        "verdict": verdict,
        "group": NAMES[label] if run.threshold is None else verdict,
    }


def _card(
    case: Case,
    colours: ColourScale,
    pixel_threshold: float | None,
    baseline: ColourScale | None = None,
) -> dict[str, object]:
    above = None if pixel_threshold is None else case.anomaly_map >= pixel_threshold
    height, width = case.image.shape[:2]
    return {
        "name": case.name,
        "score": case.score,
        "label": None if case.label is None else NAMES[case.label],
        "size": (width, height),
        "image": picture(case.image),
        "reconstruction": picture(case.reconstruction),
        "map": picture(map_layer(case.anomaly_map, colours)),
        "baseline": None
        if baseline is None or case.baseline_map is None
        else picture(map_layer(case.baseline_map, baseline)),
        "mask_path": None if case.mask is None else outline_path(case.mask),
        "threshold_path": None if above is None else outline_path(above),
    }


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


def _gallery_note(run: TestRun, shown: Sequence[int]) -> str:
    """What the reader of a test's gallery must know of the choice of its images."""
    num_shown, num_all = len(shown), len(run.scores)
    note = _shown_note(num_shown, num_all)
    if shown and run.baseline:
        low, high = run.baseline.colours.low, run.baseline.colours.high
        note += f" Maps of the baseline have the same colours from {low:.4g} to {high:.4g}."
    if not shown or num_shown == num_all:
        return note
    if each := num_shown // GALLERY_PART:
        note += f" Besides the most misleading ones, these are {each:,} of the best and {each:,} "
        note += "drawn at random."
    if run.threshold is None:
        return note
    pairs = zip(run.split.labels, run.scores, strict=True)
    wrong = [is_wrong(label, score, run.threshold) for label, score in pairs]
    num_wrong = sum(wrong[index] for index in shown)
    return f"{note} {num_wrong:,} of {sum(wrong):,} wrong decisions are among them."


def _shown_note(shown: int, total: int) -> str:
    if not shown and total:
        return f"The gallery is left out, since REPORT_IMAGES is 0. The set has {total:,} images."
    return f"Showing {shown:,} of {total:,} images."


def _test_charts(
    run: TestRun, roc: Figure, histogram: Figure
) -> tuple[list[tuple[str, Markup]], str]:
    labels, scores = run.split.labels, run.scores
    charts = {"Image scores": histogram}
    missing = ""
    if len(set(labels)) < 2:
        name = NAMES[1 - labels[0]]
        missing = f"ROC and precision-recall curves need both classes: no image is {name}."
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
    training, testing = run.config.training, run.config.need_testing()
    if training is None:
        return "There is no threshold: the configuration names no VAL_DATA_PATH to learn it on."
    if same_folder(training.val_data_path, testing.test_data_path):
        return (
            "There is no threshold: VAL_DATA_PATH is the test set itself, and a threshold learnt "
            "on the images that it is tested on would flatter."
        )
    return f"There is no threshold: {training.val_data_path} has no normal images to learn it on."


def _metrics_note(metrics: Metrics, *, has_masks: bool) -> str:
    unit = metrics["interval_unit"]
    note = f"95 % intervals come from drawing the test set's {unit}s anew (bootstrap by {unit})."
    if metrics["num_volumes"]:
        note += f" Those of volumes come from drawing {metrics['interval_unit_volumes']}s."
    if not (metrics["num_normal"] and metrics["num_anomalous"]):
        note += " Metrics that compare normal with anomalous images need both."
    elif not has_masks:
        note += " The set has no masks, so that pixel metrics are not defined."
    return note
