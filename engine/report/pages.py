"""The reports of a test and of a prediction: what they show and say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from datasets.folders.find import Split
from engine.evaluate.calibration import Calibration, ColourScale
from engine.evaluate.cases import Case
from engine.metrics.run_metrics import Metrics
from engine.report.charts import NAMES, chart_svg, histogram_figure, precision_recall_figure
from engine.report.gallery import gallery_note, is_wrong, shown_note
from engine.report.pictures import colour_strip, mask_path, overlay, picture
from engine.report.render import render
from engine.runtime import versions
from utils.checkpoints import write_text
from utils.config.load import Config, ini_text
from utils.run_files import same_folder

_EXPLANATIONS = {
    "auroc": ("AUROC", "area under the ROC curve: 0.5 is chance, 1 is perfect"),
    "ap": ("average precision", "area under the precision-recall curve"),
    "f1_max": ("best F1", "at the threshold that suits this test set best, hence optimistic"),
    "sensitivity_at_95_specificity": (
        "sensitivity at 95 % specificity",
        "share of the anomalous found where at most 5 % of the normal are called anomalous",
    ),
    "dice_max": ("best Dice", "over all pixels of the set, at the threshold that suits it best"),
    "aupro": ("AUPRO", "overlap of each anomalous region, up to 30 % false positives"),
}


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
    """

    __test__ = False

    config: Config
    split: Split
    scores: list[float]
    metrics: Metrics
    threshold: float | None
    colours: ColourScale


@dataclass(frozen=True)
class PredictedImage:
    """One image of a prediction.

    Attributes:
        name: The image's path.
        score: Its anomaly score.
        image: (H, W, 3) uint8.
        reconstruction: (H, W, 3) uint8.
        anomaly_map: (H, W) float32.
    """

    name: str
    score: float
    image: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]


def write_report(
    run: TestRun, cases: Iterable[Case], roc: Figure, histogram: Figure, path: Path
) -> None:
    """Write the report of a test.

    Args:
        run: The finished test.
        cases: The images of the gallery, the most misleading first; taken one by one.
        roc: The ROC curve; left out where a class is missing.
        histogram: The histogram of image scores.
        path: The HTML file.

    Raises:
        UserError: The report cannot be written.
    """
    metrics = run.metrics
    shown = {case.index: _test_card(run, case) for case in cases}
    charts, charts_missing = _test_charts(run, roc, histogram)
    content = render(
        "test.html.j2",
        experiment=run.config.need_testing().experiment_name,
        counts=_test_counts(metrics),
        threshold=run.threshold,
        threshold_source=_threshold_source(run),
        charts=charts,
        charts_missing=charts_missing,
        colours=run.colours,
        colour_strip=colour_strip(run.colours),
        cards=list(shown.values()),
        cards_note=gallery_note(run.split.labels, run.scores, run.threshold, list(shown)),
        config_text=ini_text(run.config),
        setup=[
            ("checkpoint", metrics["checkpoint"]),
            ("seed", str(metrics["seed"])),
            *metrics["versions"].items(),
        ],
        metrics=_metric_rows(metrics),
        metrics_note=_metrics_note(metrics, has_masks=run.split.has_masks),
        confusion=metrics["confusion"],
    )
    write_text(path, content)


def write_prediction_report(
    config: Config,
    calibration: Calibration,
    scores: Sequence[float],
    images: Iterable[PredictedImage],
    unreadable: Sequence[tuple[str, str]],
    path: Path,
) -> None:
    """Write the report of a prediction.

    Args:
        config: A config with a section [TESTING].
        calibration: Threshold and colour scale.
        scores: Of all images that could be read.
        images: Those that the gallery shows; taken one by one.
        unreadable: Path and error of each file that could not be read.
        path: The HTML file.

    Raises:
        UserError: The report cannot be written.
    """
    settings, threshold = config.need_testing(), calibration.threshold
    source = f"{calibration.method} on {calibration.val_data_path}"
    cards = [_predicted_card(image, calibration) for image in images]
    num_anomalous = sum(score >= threshold for score in scores)
    title, charts = "Image scores", []
    if scores:
        charts = [(title, chart_svg(histogram_figure(scores, None, threshold), title))]
    content = render(
        "prediction.html.j2",
        experiment=settings.experiment_name,
        counts=[
            ("images", len(scores)),
            ("called anomalous", num_anomalous),
            ("called normal", len(scores) - num_anomalous),
            ("not readable", len(unreadable)),
        ],
        threshold=threshold,
        threshold_source=f"Learnt on validation images: {source}.",
        charts=charts,
        charts_missing="" if charts else "No image was scored.",
        colours=calibration.colours,
        colour_strip=colour_strip(calibration.colours),
        cards=cards,
        cards_note=shown_note(len(cards), len(scores)),
        config_text=ini_text(config),
        setup=[*versions().items(), ("seed", str(settings.seed))],
        unreadable=unreadable,
    )
    write_text(path, content)


def _test_card(run: TestRun, case: Case) -> dict[str, object]:
    # The score of the table: scored again in another batch, its last digits may differ.
    score, verdict = run.scores[case.index], "none"
    if run.threshold is not None:
        right = "f" if is_wrong(case.label, score, run.threshold) else "t"
        verdict = right + ("p" if score >= run.threshold else "n")
    return _pictures(case, run.colours) | {
        "score": score,
        "label": NAMES[case.label],
        "verdict": verdict,
        "group": NAMES[case.label] if run.threshold is None else verdict,
        "mask_path": mask_path(case.mask) if run.split.has_masks else None,
    }


def _predicted_card(image: PredictedImage, calibration: Calibration) -> dict[str, object]:
    verdict = NAMES[image.score >= calibration.threshold]
    return _pictures(image, calibration.colours) | {
        "score": image.score,
        "label": None,
        "verdict": verdict,
        "group": verdict,
        "mask_path": None,
    }


def _pictures(image: Case | PredictedImage, colours: ColourScale) -> dict[str, object]:
    height, width = image.image.shape[:2]
    return {
        "name": image.name,
        "size": (width, height),
        "image": picture(image.image),
        "reconstruction": picture(image.reconstruction),
        "overlay": picture(overlay(image.image, image.anomaly_map, colours)),
    }


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


def _test_counts(metrics: Metrics) -> tuple[tuple[str, int], ...]:
    counts = [(name, metrics[f"num_{name}"]) for name in ("images", "normal", "anomalous")]
    if metrics["interval_unit"] == "patient":
        counts.append(("patients", metrics["num_groups"]))
    return (*counts, ("left out by MAX_SAMPLES_TEST", metrics["num_left_out"]))


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


def _metric_rows(
    metrics: Metrics,
) -> list[tuple[str, float | None, tuple[float, float] | None, str]]:
    rows = []
    for key, value in metrics.items():
        kind, _, name = key.partition("_")
        if kind in ("image", "pixel") and name in _EXPLANATIONS:
            title, explanation = _EXPLANATIONS[name]
            interval = metrics["intervals_95"].get(key)
            rows.append((f"{kind.title()} {title}", value, interval, explanation))
    return rows


def _metrics_note(metrics: Metrics, *, has_masks: bool) -> str:
    unit = metrics["interval_unit"]
    note = f"95 % intervals come from drawing the test set's {unit}s anew (bootstrap by {unit})."
    if not (metrics["num_normal"] and metrics["num_anomalous"]):
        note += " Metrics that compare normal with anomalous images need both."
    elif not has_masks:
        note += " The set has no masks, so that pixel metrics are not defined."
    return note
