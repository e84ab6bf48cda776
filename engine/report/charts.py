"""Charts of image scores: each is one figure, saved as PNG and drawn into a report."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from engine.metrics.curves import auroc
from engine.metrics.histogram import SortedScores

NAMES = ("normal", "anomalous")
"""What a label is called, by label."""

# The names are those of report.css, which has a second set of colours for dark pages.
_COLOURS = {
    "page": "#ffffff",
    "text": "#1b2025",
    "muted": "#58626c",
    "line": "#d7dce1",
    "accent": "#1d5c96",
    "normal": "#2f6ca8",
    "anomalous": "#c04a2f",
}
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_HISTOGRAM_BINS = 40
_CURVE_POINTS = 600


def roc_figure(
    labels: Sequence[int], scores: Sequence[float], confusion: Mapping[str, float] | None
) -> Figure:
    """ROC curve; says so where a class is missing.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        confusion: ``specificity`` and ``sensitivity`` at the threshold, None without one.
    """
    if len(set(labels)) < 2:
        figure, axes = _chart("1 − specificity", "sensitivity", _SHARES, _SHARES)
        axes.text(0.5, 0.5, "needs both classes", ha="center", va="center", size=12)
        return figure
    curve = SortedScores(labels, scores).curve()
    return _curve_figure(
        ("1 − specificity", "sensitivity"),
        (
            curve.fp / curve.normal,
            curve.tp / curve.anomalous,
            f"ROC curve, AUROC {auroc(curve):.3f}",
        ),
        ((0, 1), "chance"),
        (1 - confusion["specificity"], confusion["sensitivity"]) if confusion else None,
    )


def precision_recall_figure(
    labels: Sequence[int], scores: Sequence[float], confusion: Mapping[str, Any] | None
) -> Figure:
    """Precision over recall of scores of both classes, in steps: its area is the AP.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,).
        confusion: ``sensitivity`` and ``precision`` at the threshold, None without one.
    """
    curve = SortedScores(labels, scores).curve()
    precision = curve.tp[1:] / (curve.tp + curve.fp)[1:]
    steps_x = np.repeat(curve.tp / curve.anomalous, 2)[1:-1]
    steps_y = np.repeat(precision, 2)
    share = float(np.mean(labels))
    # Where nothing is called anomalous, precision is not defined and has no place.
    point = None
    if confusion and confusion["precision"] is not None:
        point = (confusion["sensitivity"], confusion["precision"])
    return _curve_figure(
        ("recall (sensitivity)", "precision"),
        (steps_x, steps_y, "precision-recall curve"),
        ((share, share), "share of anomalous images"),
        point,
    )


def histogram_figure(
    scores: Sequence[float], labels: Sequence[int] | None, threshold: float | None
) -> Figure:
    """Histogram of at least one score, by class where there are labels."""
    values = np.asarray(scores, dtype=np.float64)
    edges = np.histogram_bin_edges(values, _HISTOGRAM_BINS)
    shown = edges if threshold is None else np.append(edges, threshold)
    groups = {("images", "accent"): values}
    if labels is not None:
        groups = {(name, name): values[np.equal(labels, i)] for i, name in enumerate(NAMES)}
    counts = {key: np.histogram(group, edges)[0] for key, group in groups.items() if len(group)}
    highest = max(int(count.max()) for count in counts.values())
    x_ticks = MaxNLocator(5).tick_values(shown.min(), shown.max())
    y_ticks = MaxNLocator(4, integer=True).tick_values(0, highest)
    figure, axes = _chart("anomaly score", "images", x_ticks, y_ticks)
    for (name, colour), count in counts.items():
        # Printed in grey, the classes differ by how full they are.
        face = (_COLOURS[colour], 0.15 if name == "normal" else 0.45)
        label = f"{name} ({count.sum():,})"
        bars = axes.stairs(count, edges, fill=True, fc=face, ec=_COLOURS[colour])
        bars.set(lw=1, label=label, clip_on=False)
    if threshold is not None:
        line, y = (threshold, threshold), (y_ticks[0], y_ticks[-1])
        axes.plot(line, y, "--", color=_COLOURS["text"], lw=1.5, label="threshold", clip_on=False)
    _key(figure)
    return figure


def chart_svg(figure: Figure, title: str) -> Markup:
    """A chart as an element of a report, in the fonts and colours of its style sheet.

    Args:
        figure: One of the figures of this module.
        title: What it is, for readers who do not see it; differs from chart to chart.
    """
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    # Left out: the header, a style that would reach the whole page, ids that nothing refers to.
    _, _, drawing = content.getvalue().partition("</defs>")
    drawing = re.sub(r' id="(?!m[0-9a-f]{10}")[^"]*"| font-family:[^;]*;', "", drawing)
    drawing = re.sub(r"\s*\n\s*", " ", drawing)
    for name, colour in _COLOURS.items():
        drawing = drawing.replace(colour, f"var(--{name})")
    width, height = figure.get_size_inches() * 72
    axes = figure.axes[0]
    label = f"{title}: {axes.get_ylabel()} over {axes.get_xlabel()}"
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">'
    return Markup(opening + drawing)


def _chart(
    x_label: str, y_label: str, x_ticks: ArrayLike, y_ticks: ArrayLike
) -> tuple[Figure, Axes]:
    """Empty axes that reach from their first to their last tick."""
    x, y = np.asarray(x_ticks).tolist(), np.asarray(y_ticks).tolist()
    figure = Figure(figsize=(5, 4.3), facecolor=_COLOURS["page"], layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(_COLOURS["page"])
    axes.set_xlabel(x_label, color=_COLOURS["text"], size=12)
    axes.set_ylabel(y_label, color=_COLOURS["text"], size=12)
    axes.set(xticks=x, yticks=y, xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(length=0, pad=7, labelcolor=_COLOURS["muted"], labelsize=11)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(_COLOURS["muted"])
    axes.hlines(y, x[0], x[-1], color=_COLOURS["line"], lw=1, zorder=0, clip_on=False)
    return figure, axes


def _curve_figure(
    axis_labels: tuple[str, str],
    curve: tuple[NDArray[Any], NDArray[Any], str],
    reference: tuple[tuple[float, float], str],
    point: tuple[float, float] | None,
) -> Figure:
    """A named curve, a line from left to right to compare it with, the point of the threshold."""
    figure, axes = _chart(*axis_labels, _SHARES, _SHARES)
    x, y, name = curve
    # At most so many points, evenly along the curve, its ends included: the page stays small.
    kept = np.linspace(0, len(x) - 1, min(len(x), _CURVE_POINTS)).round().astype(int)
    axes.plot(x[kept], y[kept], color=_COLOURS["accent"], lw=2, label=name, clip_on=False)
    ends, name = reference
    dots: dict[str, Any] = {"dashes": (2, 3), "lw": 1, "zorder": 1, "clip_on": False}
    axes.plot((0, 1), ends, color=_COLOURS["muted"], label=name, **dots)
    if point:
        face, edge, name = _COLOURS["page"], _COLOURS["text"], "at the threshold"
        axes.plot(*point, "o", ms=8, mfc=face, mec=edge, mew=2, label=name, zorder=3, clip_on=False)
    _key(figure)
    return figure


def _key(figure: Figure) -> None:
    style: dict[str, Any] = {"frameon": False, "fontsize": 11, "labelcolor": _COLOURS["muted"]}
    figure.legend(loc="outside lower left", ncols=2, borderpad=0.4, **style)
