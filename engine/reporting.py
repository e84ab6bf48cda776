"""The reports of a test and of a prediction: which images they show, and their pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets.layout import ANOMALOUS
from engine.calibration import ColourScale
from engine.cases import Case, chosen_cases, worst_first
from engine.report_pictures import colour_key, mask_path, overlay, picture
from utils.checkpoints import write_text
from utils.config import ini_text
from utils.report import Card, Confusion, Figure, PredictionPage, TestPage, render
from utils.report_charts import (
    NAMES,
    Chart,
    histogram_chart,
    precision_recall_chart,
    roc_chart,
)
from utils.run_files import same_folder

if TYPE_CHECKING:
    from engine.testing import TestRun

# One in so many images of a gallery is one of the best, and one in so many is a random one.
_PART = 5

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
class PredictedImage:
    """One image of a prediction.

    Attributes:
        name: The image's path.
        score: Its anomaly score.
        predicted: Whether it is called anomalous, None without a threshold.
        image: (H, W, 3) uint8.
        reconstruction: (H, W, 3) uint8.
        anomaly_map: (H, W) float32.
    """

    name: str
    score: float
    predicted: bool | None
    image: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """A finished prediction, for its report.

    Attributes:
        experiment: Name of the experiment.
        scores: Of all images that could be read.
        images: Those that the gallery shows; taken one by one, so that a generator does.
        threshold: Learnt on validation images, None where there is none.
        threshold_source: Where it came from, or why there is none, as a sentence.
        colours: The colour scale of all maps.
        config_text: The resolved configuration.
        versions: Versions of what numbers depend on, and the seed.
        unreadable: Path and error of each file that could not be read.
    """

    experiment: str
    scores: Sequence[float]
    images: Iterable[PredictedImage]
    threshold: float | None
    threshold_source: str
    colours: ColourScale
    config_text: str
    versions: dict[str, str]
    unreadable: Sequence[tuple[str, str]]


def write_report(run: TestRun, path: Path) -> None:
    """Write the report of a test.

    Args:
        run: The finished test.
        path: The HTML file.

    Raises:
        UserError: The report cannot be written.
    """
    labels, scores, metrics = run.split.labels, run.scores, run.metrics
    charts, charts_missing = _test_charts(labels, scores, run.threshold, metrics["confusion"])
    cards, cards_note = _test_cards(run)
    page = TestPage(
        experiment=run.config.need_testing().experiment_name,
        made=_now(),
        counts=_test_counts(metrics),
        threshold=run.threshold,
        threshold_source=_threshold_source(run),
        charts=charts,
        charts_missing=charts_missing,
        colours=colour_key(run.colours),
        cards=cards,
        cards_note=cards_note,
        config_text=ini_text(run.config),
        setup=(
            ("checkpoint", metrics["checkpoint"]),
            ("seed", str(metrics["seed"])),
            *metrics["versions"].items(),
        ),
        figures=_figures(metrics),
        figures_note=_figures_note(metrics, has_masks=run.split.has_masks),
        confusion=_confusion(metrics["confusion"]),
    )
    write_text(path, render(page))


def write_prediction_report(prediction: Prediction, path: Path) -> None:
    """Write the report of a prediction.

    Args:
        prediction: The finished prediction.
        path: The HTML file.

    Raises:
        UserError: The report cannot be written.
    """
    scores, threshold = prediction.scores, prediction.threshold
    cards = tuple(_predicted_card(image, prediction.colours) for image in prediction.images)
    counts = [("images", len(scores))]
    if threshold is not None:
        num_anomalous = sum(score >= threshold for score in scores)
        counts += [("called anomalous", num_anomalous)]
        counts += [("called normal", len(scores) - num_anomalous)]
    histogram = histogram_chart(scores, None, threshold)
    page = PredictionPage(
        experiment=prediction.experiment,
        made=_now(),
        counts=(*counts, ("not readable", len(prediction.unreadable))),
        threshold=threshold,
        threshold_source=prediction.threshold_source,
        charts=(histogram,) if histogram else (),
        charts_missing="" if histogram else "No image was scored.",
        colours=colour_key(prediction.colours),
        cards=cards,
        cards_note=_showing(len(cards), len(scores)),
        config_text=prediction.config_text,
        setup=tuple(prediction.versions.items()),
        unreadable=tuple(prediction.unreadable),
    )
    write_text(path, render(page))


def misleading_first(
    labels: Sequence[int], scores: Sequence[float], threshold: float | None
) -> list[int]:
    """All indices: wrong decisions, then the rest, both with the most misleading image first."""
    order = worst_first(labels, scores)
    # Sorting is stable: within right and within wrong ones the order stays.
    return sorted(order, key=lambda index: not _is_wrong(labels[index], scores[index], threshold))


def _is_wrong(label: int, score: float, threshold: float | None) -> bool:
    return threshold is not None and (score >= threshold) != (label == ANOMALOUS)


def gallery_indices(
    labels: Sequence[int],
    scores: Sequence[float],
    threshold: float | None,
    *,
    limit: int,
    seed: int,
) -> list[int]:
    """At most ``limit`` different indices to show, the most misleading first.

    Some of the best images and some random ones are among them, since a gallery of failures alone
    would mislead as well.
    """
    order = misleading_first(labels, scores, threshold)
    each = limit // _PART
    if limit >= len(order) or not each:
        return order[:limit]
    chosen = chosen_cases(labels, scores, each=each, seed=seed)
    others = {*chosen["best"], *chosen["random"]}
    worst = [index for index in order if index not in others][: limit - len(others)]
    shown = others.union(worst)
    return [index for index in order if index in shown]


def _test_cards(run: TestRun) -> tuple[tuple[Card, ...], str]:
    settings = run.config.need_testing()
    labels, scores, limit = run.split.labels, run.scores, settings.report_images
    indices = gallery_indices(labels, scores, run.threshold, limit=limit, seed=settings.seed)
    order = misleading_first(labels, scores, run.threshold)
    ranks = {index: rank for rank, index in enumerate(order)}
    cards = tuple(_test_card(run, run.cases[index], ranks[index]) for index in indices)
    return cards, _test_cards_note(run, indices)


def _test_cards_note(run: TestRun, indices: Sequence[int]) -> str:
    labels, scores = run.split.labels, run.scores
    note = _showing(len(indices), len(scores))
    if not indices or len(indices) == len(scores):
        return note
    if each := len(indices) // _PART:
        note += f" Besides the most misleading ones, these are {each:,} of the best and {each:,} "
        note += "drawn at random."
    if run.threshold is None:
        return note
    wrong = {i for i, s in enumerate(scores) if _is_wrong(labels[i], s, run.threshold)}
    num_shown = len(wrong.intersection(indices))
    return f"{note} {num_shown:,} of {len(wrong):,} wrong decisions are among them."


def _showing(shown: int, total: int) -> str:
    if not shown and total:
        return f"The gallery is left out, since REPORT_IMAGES is 0. The set has {total:,} images."
    return f"Showing {shown:,} of {total:,} images."


def _test_card(run: TestRun, case: Case, rank: int) -> Card:
    verdict = "none"
    # The score of the table: scored again in another batch, its last digits may differ.
    score = run.scores[case.index]
    if run.threshold is not None:
        right = "f" if _is_wrong(case.label, score, run.threshold) else "t"
        verdict = right + ("p" if score >= run.threshold else "n")
    return Card(
        name=case.name,
        score=score,
        label=NAMES[case.label],
        verdict=verdict,
        rank=rank,
        size=(case.image.shape[1], case.image.shape[0]),
        image=picture(case.image),
        reconstruction=picture(case.reconstruction),
        overlay=picture(overlay(case.image, case.anomaly_map, run.colours)),
        mask_path=mask_path(case.mask) if run.split.has_masks else None,
    )


def _predicted_card(image: PredictedImage, colours: ColourScale) -> Card:
    return Card(
        name=image.name,
        score=image.score,
        label=None,
        verdict="none" if image.predicted is None else NAMES[image.predicted],
        rank=None,
        size=(image.image.shape[1], image.image.shape[0]),
        image=picture(image.image),
        reconstruction=picture(image.reconstruction),
        overlay=picture(overlay(image.image, image.anomaly_map, colours)),
        mask_path=None,
    )


def _test_charts(
    labels: Sequence[int],
    scores: Sequence[float],
    threshold: float | None,
    confusion: dict[str, Any] | None,
) -> tuple[tuple[Chart, ...], str]:
    histogram = histogram_chart(scores, labels, threshold)
    charts = (histogram,) if histogram else ()
    if len(set(labels)) < 2:
        missing = NAMES[1 - labels[0]]
        return charts, f"ROC and precision-recall curves need both classes: no image is {missing}."
    at_roc = at_recall = None
    if confusion:
        at_roc = (1 - confusion["specificity"], confusion["sensitivity"])
        # Where nothing is called anomalous, precision is not defined and has no place.
        if confusion["precision"] is not None:
            at_recall = (confusion["sensitivity"], confusion["precision"])
    curves = (
        roc_chart(labels, scores, at_roc),
        precision_recall_chart(labels, scores, at_recall),
    )
    return (*curves, *charts), ""


def _test_counts(metrics: dict[str, Any]) -> tuple[tuple[str, int], ...]:
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


def _figures(metrics: dict[str, Any]) -> tuple[Figure, ...]:
    figures = []
    for key, value in metrics.items():
        kind, _, name = key.partition("_")
        if kind in ("image", "pixel") and name in _EXPLANATIONS:
            title, explanation = _EXPLANATIONS[name]
            interval = metrics["intervals_95"].get(key)
            bounds = (interval[0], interval[1]) if interval else None
            figures.append(Figure(f"{kind.title()} {title}", value, bounds, explanation))
    return tuple(figures)


def _figures_note(metrics: dict[str, Any], *, has_masks: bool) -> str:
    unit = metrics["interval_unit"]
    note = f"95 % intervals come from drawing the test set's {unit}s anew (bootstrap by {unit})."
    if not (metrics["num_normal"] and metrics["num_anomalous"]):
        note += " Figures that compare normal with anomalous images need both."
    elif not has_masks:
        note += " The set has no masks, so that pixel figures are not defined."
    return note


def _confusion(counts: dict[str, Any] | None) -> Confusion | None:
    if counts is None:
        return None
    four = {name: counts[name] for name in ("tp", "fp", "tn", "fn")}
    rates = {name.replace("_", " ").replace("f1", "F1"): counts[name] for name in counts}
    return Confusion(**four, rates=tuple(item for item in rates.items() if item[0] not in four))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
