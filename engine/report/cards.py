"""The gallery of a report: what is shown of each image, and which images these are."""

from collections.abc import Sequence

from engine.evaluate.calibration_file import ColourScale
from engine.evaluate.cases import Case, is_wrong
from engine.report.charts import NAMES
from engine.report.pictures import map_layer, outline_path, picture
from engine.report.runs import PredictionRun, TestRun

GALLERY_PART = 5
"""One in so many images of a gallery is among the best, and as many are random."""


def test_card(run: TestRun, index: int, case: Case) -> dict[str, object]:
    """An image of a test as card.html.j2 shows it."""
    # The score of the table: scored again in another batch, its last digits may differ.
    label, score = run.split.labels[index], run.scores[index]
    called = None if run.threshold is None else int(score >= run.threshold)
    decided = verdict(label, called)
    baseline = run.baseline.colours if run.baseline else None
    return _card(case, run.colours, run.pixel_threshold, baseline) | {
        "score": score,
        "verdict": decided,
        "group": NAMES[label] if called is None else decided,
    }


def prediction_card(run: PredictionRun, case: Case) -> dict[str, object]:
    """An image of a prediction as card.html.j2 shows it."""
    called = verdict(None, int(case.score >= run.threshold))
    card = _card(case, run.calibration.colours, run.calibration.pixel_threshold)
    return card | {"verdict": called, "group": called}


def verdict(label: int | None, called: int | None) -> str:
    """A key of ``VERDICTS``: what a threshold decides, where the label is known and how rightly.

    Args:
        label: 0 normal, 1 anomalous, None if unknown.
        called: What the threshold says, None without one.
    """
    if called is None:
        return "none"
    if label is None:
        return NAMES[called]
    return ("t" if called == label else "f") + ("p" if called else "n")


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


def gallery_note(run: TestRun, shown: Sequence[int]) -> str:
    """What the reader must know about the choice of images in a test's gallery."""
    num_shown, num_all = len(shown), len(run.scores)
    note = shown_note(num_shown, num_all)
    if shown and run.baseline:
        low, high = run.baseline.colours.low, run.baseline.colours.high
        note += f" Maps of the baseline use the same colours for {low:.4g} to {high:.4g}."
    if not shown or num_shown == num_all:
        return note
    if each := num_shown // GALLERY_PART:
        note += f" These are the most misleading images, {each:,} of the best and {each:,} chosen "
        note += "at random."
    if run.threshold is None:
        return note
    pairs = zip(run.split.labels, run.scores, strict=True)
    wrong = [is_wrong(label, score, run.threshold) for label, score in pairs]
    num_wrong = sum(wrong[index] for index in shown)
    return f"{note} {num_wrong:,} of {sum(wrong):,} wrong decisions are among them."


def shown_note(shown: int, total: int) -> str:
    """How many images of all a gallery shows."""
    if not shown and total:
        return f"There is no gallery because REPORT_IMAGES is 0. The set has {total:,} images."
    return f"Showing {shown:,} of {total:,} images."
