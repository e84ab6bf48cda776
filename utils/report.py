"""The HTML report: plain data of a page to one self-contained file.

Nothing is loaded from elsewhere. File names and config values are other people's text: they are
escaped wherever they stand, scripts read them from the document only, and the page's own policy
lets no script run but ours.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve, roc_curve

TEMPLATES = Path(__file__).parent / "templates"
NAMES = ("normal", "anomalous")
"""What a label is called, by label."""

Point = tuple[float, float]
_CURVE_POINTS = 600
_HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Series:
    """One line, area or dot of a chart.

    Attributes:
        name: What the key says; "" where it says nothing.
        style: A CSS class: ``curve``, ``normal``, ``anomalous``, ``plain`` (areas), ``reference``,
            ``threshold`` (lines) or ``dot``.
        points: (x, y) in the chart's units.
    """

    name: str
    style: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """A chart whose axes reach from their first to their last tick.

    Attributes:
        title: What it is.
        x_label: The x axis.
        y_label: The y axis.
        x_ticks: Ascending.
        y_ticks: Ascending.
        series: Drawn in this order.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    series: tuple[Series, ...]

    # The plotting area in the units of the SVG's viewBox.
    left: ClassVar[int] = 52
    right: ClassVar[int] = 348
    top: ClassVar[int] = 10
    bottom: ClassVar[int] = 230

    def x(self, value: float) -> float:
        """Horizontal position in the SVG."""
        share = (value - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Vertical position in the SVG."""
        share = (value - self.y_ticks[0]) / (self.y_ticks[-1] - self.y_ticks[0])
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def path(self, series: Series) -> str:
        """The SVG path through a series' points."""
        points = (f"{self.x(x):g} {self.y(y):g}" for x, y in series.points)
        return "M" + "L".join(point for point, _ in groupby(points))


_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def roc_chart(labels: ArrayLike, scores: ArrayLike, operating: Point | None) -> Chart:
    """ROC curve of scores of both classes.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        operating: 1 − specificity and sensitivity at the threshold, None where there is none.
    """
    fpr, tpr, _ = roc_curve(labels, scores)
    series = [
        Series("chance", "reference", ((0, 0), (1, 1))),
        Series("ROC curve", "curve", _thinned(fpr, tpr)),
    ]
    if operating:
        series.append(Series("at the threshold", "dot", (operating,)))
    return Chart("ROC curve", "1 − specificity", "sensitivity", _SHARES, _SHARES, tuple(series))


def precision_recall_chart(labels: ArrayLike, scores: ArrayLike, operating: Point | None) -> Chart:
    """Precision over recall of scores of both classes, in steps: its area is the AP.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        operating: Sensitivity and precision at the threshold, None where there is none.
    """
    precision, recall, _ = precision_recall_curve(labels, scores)
    steps_x, steps_y = np.repeat(recall[::-1], 2)[:-1], np.repeat(precision[::-1], 2)[1:]
    share = float(np.asarray(labels).mean())
    series = [
        Series("share of anomalous images", "reference", ((0, share), (1, share))),
        Series("precision-recall curve", "curve", _thinned(steps_x[1:], steps_y[1:])),
    ]
    if operating:
        series.append(Series("at the threshold", "dot", (operating,)))
    title = "Precision-recall curve"
    return Chart(title, "recall (sensitivity)", "precision", _SHARES, _SHARES, tuple(series))


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[Point, ...]:
    """At most ``_CURVE_POINTS`` points, evenly along the curve, its ends included."""
    count = min(len(x), _CURVE_POINTS)
    kept = np.linspace(0, len(x) - 1, count).round().astype(int)
    return tuple(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def histogram_chart(
    scores: ArrayLike, labels: ArrayLike | None, threshold: float | None
) -> Chart | None:
    """Histogram of scores, by class where there are labels; None where there are no scores."""
    values = np.asarray(scores, dtype=np.float64)
    if not len(values):
        return None
    edges = _histogram_edges(values)
    shown = edges if threshold is None else np.append(edges, threshold)
    x_ticks = np.asarray(MaxNLocator(5).tick_values(shown.min(), shown.max()))
    groups = {("images", "plain"): values}
    if labels is not None:
        classes = np.asarray(labels)
        groups = {(name, name): values[classes == label] for label, name in enumerate(NAMES)}
    counts = {key: np.histogram(group, edges)[0] for key, group in groups.items() if len(group)}
    highest = max(int(count.max()) for count in counts.values())
    y_ticks = np.asarray(MaxNLocator(4, integer=True).tick_values(0, highest))
    areas = [
        Series(f"{name} ({count.sum():,})", style, _outline(edges, count))
        for (name, style), count in counts.items()
    ]
    if threshold is not None:
        line = ((threshold, float(y_ticks[0])), (threshold, float(y_ticks[-1])))
        areas.append(Series("threshold", "threshold", line))
    x, y = tuple(x_ticks.tolist()), tuple(y_ticks.tolist())
    return Chart("Image scores", "anomaly score", "images", x, y, tuple(areas))


def _histogram_edges(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    # Scores that differ in their last digits only leave no room for bins between them.
    margin = max(0.5, 0.1 * largest) if high - low <= 1e-9 * largest else 0.0
    return np.linspace(low - margin, high + margin, _HISTOGRAM_BINS + 1)


def _outline(edges: np.ndarray, counts: np.ndarray) -> tuple[Point, ...]:
    x, y = np.repeat(edges, 2), np.concatenate([[0], np.repeat(counts, 2), [0]])
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


@dataclass(frozen=True)
class Figure:
    """One figure of a test: value and 95 % interval, None where not defined."""

    name: str
    value: float | None
    interval: Point | None
    explanation: str


@dataclass(frozen=True)
class Confusion:
    """Decisions at the threshold; the rates have names and lie from 0 to 1."""

    tp: int
    fp: int
    tn: int
    fn: int
    rates: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class ColourKey:
    """The colour scale of all anomaly maps.

    Attributes:
        low: Pixel score at its beginning.
        high: Pixel score at its end.
        source: What it was learnt on.
        picture: A strip of its colours, as a data URI.
    """

    low: float
    high: float
    source: str
    picture: str


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        name: The image's path.
        score: Its anomaly score.
        label: ``normal`` or ``anomalous``, None where unknown.
        verdict: A key of :data:`VERDICTS`.
        rank: Place when the most misleading images come first; None where labels are unknown.
        size: Width and height that the mask's path is drawn in.
        image: A data URI.
        reconstruction: A data URI.
        overlay: The anomaly map on the image, a data URI.
        mask_path: SVG path around the mask; "" where it is empty, None where there are no masks.
    """

    name: str
    score: float
    label: str | None
    verdict: str
    rank: int | None
    size: tuple[int, int]
    image: str
    reconstruction: str
    overlay: str
    mask_path: str | None

    @property
    def group(self) -> str:
        """What the gallery's buttons choose by: the verdict, the label where there is none."""
        return self.label or self.verdict if self.verdict == "none" else self.verdict


VERDICTS = {
    "fn": "False negative",
    "fp": "False positive",
    "tp": "True positive",
    "tn": "True negative",
    "anomalous": "Anomalous",
    "normal": "Normal",
    "none": "No threshold",
}
"""Keys and names of verdicts, in the order of their buttons."""


@dataclass(frozen=True)
class Page:
    """What every report shows.

    Attributes:
        experiment: Name of the experiment.
        made: When the report was made.
        counts: Names and numbers of images.
        threshold: An image with this score or above is called anomalous; None without one.
        threshold_source: Where it came from, or why there is none, as a sentence.
        charts: Charts of the scores.
        charts_missing: Why charts are missing, as a sentence; "" where none is.
        colours: The colour scale of all maps.
        cards: The gallery, in its first order.
        cards_note: Which images these are, as a sentence.
        config_text: The resolved configuration.
        setup: Names and values: seed, versions.
    """

    template: ClassVar[str]

    experiment: str
    made: str
    counts: tuple[tuple[str, int], ...]
    threshold: float | None
    threshold_source: str
    charts: tuple[Chart, ...]
    charts_missing: str
    colours: ColourKey
    cards: tuple[Card, ...]
    cards_note: str
    config_text: str
    setup: tuple[tuple[str, str], ...]

    @property
    def filters(self) -> list[tuple[str, str, int]]:
        """Key, name and number of cards of each group that the gallery holds."""
        found = Counter(card.group for card in self.cards)
        return [(key, name, found[key]) for key, name in VERDICTS.items() if found[key]]


@dataclass(frozen=True)
class TestPage(Page):
    """The report of a test.

    Attributes:
        figures: Metrics with their intervals.
        figures_note: How to read them, as a sentence.
        confusion: Decisions at the threshold, None without one.
    """

    __test__ = False
    template: ClassVar[str] = "test.html.j2"

    figures: tuple[Figure, ...]
    figures_note: str
    confusion: Confusion | None


@dataclass(frozen=True)
class PredictionPage(Page):
    """The report of a prediction.

    Attributes:
        unreadable: Path and error of each file that could not be read.
    """

    template: ClassVar[str] = "prediction.html.j2"

    unreadable: tuple[tuple[str, str], ...]


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _visible(value, "\n\t") if isinstance(value, str) else value,
    )
    environment.filters |= {"one_line": _visible, "number": _number}
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(page.template).render(
        page=page, verdicts=VERDICTS, script=Markup(script), script_hash=digest
    )


def _visible(text: str, kept: str = "") -> str:
    """Escapes for what cannot be printed, so that no name hides or forges a part of itself.

    HTML has no place for control characters, UTF-8 none for undecodable bytes of file names.
    """
    if isinstance(text, Markup) or text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def _number(value: float | None, form: str = ".4f") -> str:
    return "not defined" if value is None else format(value, form)
