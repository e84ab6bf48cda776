"""Three orthogonal cuts through a volume, its map and its mask, in the patient's space.

    python docs/draw_volume.py --image in/a.nii.gz --map out/maps/a_map.nii.gz
        --mask out/maps/a_mask.nii.gz --output cuts.png

The command is one line. The cuts go through the highest score. Needs nibabel and matplotlib, and
knows nothing of this program.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Name of a cut → axes of RAS+ across and upwards, and what is left, right, below and above.
CUTS = {
    "axial": ((0, 1), "RLPA"),
    "coronal": ((0, 2), "RLIS"),
    "sagittal": ((1, 2), "APIS"),
}
PLACES = ((0.02, 0.47), (0.93, 0.47), (0.47, 0.02), (0.47, 0.92))


def load(path: Path) -> tuple[Values, list[Values]]:
    """Values in the order of RAS+, and of each axis the places of its voxels in mm."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    start, step = image.affine[:3, 3], nibabel.affines.voxel_sizes(image.affine)
    places = [start[axis] + step[axis] * np.arange(image.shape[axis]) for axis in range(3)]
    return image.get_fdata(), places


def plane(values: Values, across: tuple[int, int], voxel: tuple[int, ...]) -> Values:
    """The plane of two axes through a voxel, rows upwards."""
    where = tuple(slice(None) if axis in across else voxel[axis] for axis in range(3))
    return values[where].T


def show(axes: Axes, values: Values, x: Values, y: Values, shades: Normalize, name: str) -> None:
    """Lay values where they are in the patient; colours are the more see-through, the lower."""
    half_x, half_y = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    left, right, low, high = x[0] - half_x, x[-1] + half_x, y[0] - half_y, y[-1] + half_y
    axes.imshow(
        values,
        cmap=name,
        norm=shades,
        alpha=None if name == "gray" else shades(values).clip(0, 1),
        origin="lower",
        extent=(left, right, low, high),
        interpolation="bilinear",
    )
    # As radiologists look at it: right and front on the left.
    axes.set_xlim(right, left)


def draw(image_path: Path, map_path: Path, mask_path: Path, output: Path) -> None:
    """Write the picture."""
    image, places = load(image_path)
    scores, mask = load(map_path)[0], load(mask_path)[0]
    voxel = tuple(int(each) for each in np.unravel_index(scores.argmax(), scores.shape))
    greys, colours = Normalize(0, np.percentile(image, 99.5)), Normalize(0, scores.max())
    figure = Figure(figsize=(7.6, 4.9), layout="constrained", facecolor="black")
    for column, (name, (across, sides)) in enumerate(CUTS.items()):
        x, y = (places[axis] for axis in across)
        for row in range(2):
            axes = figure.add_subplot(2, 3, 1 + column + 3 * row, facecolor="black")
            show(axes, plane(image, across, voxel), x, y, greys, "gray")
            if row:
                show(axes, plane(scores, across, voxel), x, y, colours, "inferno")
                marked = plane(mask, across, voxel)
                axes.contour(x, y, marked, levels=[0.5], colors="white", linewidths=1.1)
            else:
                (other,) = {0, 1, 2} - set(across)
                axes.set_title(f"{name}, {places[other][voxel[other]]:.0f} mm", color="white")
                for axis, line in zip(across, (axes.axvline, axes.axhline), strict=True):
                    line(places[axis][voxel[axis]], color="#7df9ff", linewidth=0.4)
            for side, place in zip(sides, PLACES, strict=True):
                axes.text(*place, side, color="white", fontsize=8, transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
    figure.savefig(output, dpi=100)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("image", "map", "mask", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    draw(options.image, options.map, options.mask, options.output)


if __name__ == "__main__":
    main()
