"""Charts of a report as plain data: points of curves, areas and ticks, drawn by the template."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_curve, roc_curve

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
