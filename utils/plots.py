"""Pictures of a run: training curves, cases on one colour scale, its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from utils.checkpoints import write_atomically

COLOUR_MAP = "inferno"

mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def plot_curves(rows: Sequence[Mapping[str, float | int | None]], path: Path) -> None:
    """Loss and validation metrics by epoch.

    Args:
        rows: One per epoch, with ``epoch``, ``train_loss`` and maybe ``val_*``.
        path: The PNG file.
    """
    figure = Figure(figsize=(8, 3), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2)
    loss_axes.plot([r["epoch"] for r in rows], [r["train_loss"] for r in rows], color="black")
    loss_axes.set(xlabel="epoch", ylabel="training loss")
    names = {"val_image_auroc": "image AUROC", "val_pixel_auroc": "pixel AUROC"}
    for key, name in names.items():
        known = [row for row in rows if row.get(key) is not None]
        if known:
            metric_axes.plot(
                [row["epoch"] for row in known], [row[key] for row in known], "o-", label=name, ms=3
            )
    metric_axes.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))
    if metric_axes.lines:
        metric_axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


@dataclass(frozen=True)
class CaseRow:
    """One row of the cases' picture.

    Attributes:
        title: Two short lines beside the row.
        image: (H, W, 3) uint8.
        reconstruction: (H, W, 3) uint8.
        anomaly_map: (H, W).
        mask: (H, W) bool, None where the set has no masks.
    """

    title: str
    image: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


def plot_cases(rows: Sequence[CaseRow], scale: tuple[float, float], path: Path) -> None:
    """Images, reconstructions, anomaly maps and masks, all maps on one colour scale.

    Args:
        rows: The cases.
        scale: Pixel scores at the two ends of the colour map.
        path: The PNG file.
    """
    titles = ["image", "reconstruction", "anomaly map"]
    titles += ["mask"] if any(row.mask is not None for row in rows) else []
    figure = Figure(figsize=(1.6 * len(titles) + 2.2, 1.55 * len(rows) + 0.7), layout="constrained")
    # Layout engines do not count labels that stand beside the axes: room is kept for them.
    figure.set_layout_engine("constrained", rect=(0.05, 0, 0.95, 1))
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    shown = None
    for axes, row in zip(grid, rows, strict=True):
        axes[0].imshow(row.image)
        axes[1].imshow(row.reconstruction)
        shown = axes[2].imshow(row.anomaly_map, COLOUR_MAP, vmin=scale[0], vmax=scale[1])
        if row.mask is not None:
            axes[3].imshow(row.mask, "gray", vmin=0, vmax=1)
        axes[0].set_ylabel(row.title, rotation=0, ha="right", va="center", fontsize=7)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    if shown is not None:
        figure.colorbar(shown, ax=grid, shrink=0.5, extend="max", label="anomaly score of a pixel")
    save_figure(figure, path)


def plot_legend(scale: tuple[float, float], source: str, path: Path) -> None:
    """The colour scale of overlays, alone.

    Args:
        scale: Pixel scores at the two ends of the colour map.
        source: What the scale was learnt on, in words.
        path: The PNG file.
    """
    figure = Figure(figsize=(5, 1.1), layout="constrained")
    axes = figure.subplots()
    colours = ScalarMappable(Normalize(*scale), COLOUR_MAP)
    figure.colorbar(colours, cax=axes, orientation="horizontal", extend="max")
    axes.set_title(f"anomaly score of a pixel; scale from {source}", fontsize=8)
    save_figure(figure, path)
