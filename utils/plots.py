"""Figures of a run: training curves, the legend of its maps; all maps share one colour map."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from utils.files import write_atomically

COLOUR_MAP = "inferno"
"""From black to pale yellow: its lightness rises throughout, so a higher score also looks brighter
printed in grey and to the colour-blind; of such maps it has the widest range."""

mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def plot_curves(rows: Sequence[Mapping[str, float | int | None]], path: Path) -> None:
    """Loss and validation metrics by epoch."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2)
    loss_axes.plot([r["epoch"] for r in rows], [r["train_loss"] for r in rows], color="black")
    loss_axes.set(xlabel="epoch", ylabel="training loss")
    names = {"val_image_auroc": "image AUROC", "val_pixel_auroc": "pixel AUROC"}
    for key, name in names.items():
        known = [row for row in rows if row.get(key) is not None]
        if known:
            metric_axes.plot(
                [row["epoch"] for row in known],
                [row[key] for row in known],
                "o-",
                label=name,
                ms=5 - 2 * len(metric_axes.lines),
            )
    metric_axes.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02), xlim=loss_axes.get_xlim())
    if metric_axes.lines:
        metric_axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def colour_mapping(low: float, high: float) -> ScalarMappable:
    """Pixel scores to colours, from the darkest at ``low`` to the lightest at ``high``."""
    return ScalarMappable(Normalize(low, high), COLOUR_MAP)


def plot_legend(scale: tuple[float, float], source: str, path: Path) -> None:
    """The colour scale of overlays, alone."""
    figure = Figure(figsize=(5, 1.1), layout="constrained")
    axes = figure.subplots()
    figure.colorbar(colour_mapping(*scale), cax=axes, orientation="horizontal", extend="max")
    axes.set_title(f"anomaly score of a pixel; scale from {source}", fontsize=8)
    save_figure(figure, path)
