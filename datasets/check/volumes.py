"""The volumes of a split: how many, their grids in space, and masks on different grids."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.check.observation import Finding
from datasets.folders.samples import Sample
from datasets.readers.base import optional_package
from datasets.readers.formats import kind_of, shown
from datasets.readers.image import Source, name_of, open_image
from datasets.readers.nifti import NiftiFile
from datasets.readers.nifti_mask import NiftiMask
from datasets.volumes.grid import Grid, grid_of
from datasets.volumes.series import Series
from utils.errors import UserError

_SHOWN = 3


@dataclass
class VolumeSummary:
    """The volumes of one split."""

    slices: Counter[Path] = field(default_factory=Counter)  # volume → its slices
    # ``grid``, ``spacing``, ``orientation`` and ``affine`` → value → its volumes.
    features: dict[str, dict[str, list[Path]]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> VolumeSummary:
        """Look at the header of each volume; one that cannot be read is only counted."""
        sources = {each.volume_name: each.series or each.path for each in samples}
        summary = cls(Counter(each.volume_name for each in samples if each.volume_name is not None))
        for volume in summary.slices:
            grid = _grid(sources[volume])
            for name, value in _features(grid).items() if grid else ():
                summary.features[name].setdefault(value, []).append(volume)
        return summary

    def counts(self, feature: str) -> dict[str, int]:
        """Value → number of volumes, the most frequent first."""
        found = self.features[feature]
        return {value: len(found[value]) for value in sorted(found, key=lambda v: -len(found[v]))}


def differences(summaries: dict[str, VolumeSummary]) -> Iterator[Finding]:
    """Features in which the volumes of a data set differ, one line per split."""
    for feature in ("grid", "spacing", "orientation", "affine"):
        if len({value for each in summaries.values() for value in each.features[feature]}) < 2:
            continue
        for split, summary in summaries.items():
            counts = list(summary.counts(feature).items())
            if not counts:
                continue
            listed = [
                f"{value} ({count}, such as {shown(summary.features[feature][value][0])})"
                for value, count in counts[:_SHOWN]
            ]
            if len(counts) > _SHOWN:
                listed.append(f"{len(counts) - _SHOWN} more")
            yield Finding(
                f"volume_{feature}", f"{split}: {feature} of volumes: {', '.join(listed)}"
            )


def mask_grids(samples: Sequence[Sample]) -> Iterator[Finding]:
    """NIfTI masks that are on a different grid from their image, and are resampled."""
    pairs = {each.source: each.mask for each in samples if each.mask is not None}
    for image, mask in pairs.items():
        if not isinstance(mask, Path) or kind_of(mask) != "nifti":
            continue
        try:
            with open_image(mask, mask_of=image) as file:
                differs = isinstance(file, NiftiMask) and not file.on_grid_of_image
        except UserError:  # reported when the mask is read
            continue
        here, there = _grid(mask), _grid(image)
        if differs and here and there:
            of_mask, of_image = _features(here), _features(there)
            parts = [
                f"{name} {of_mask[name]} instead of {of_image[name]}"
                for name in of_mask
                if of_mask[name] != of_image[name]
            ]
            yield Finding(
                "mask_grid",
                f"{shown(mask)}: is on a different grid from its image {shown(name_of(image))} "
                f"({'; '.join(parts)}); it is resampled to the nearest voxel",
            )


def _grid(volume: Source) -> Grid | None:
    if isinstance(volume, Series):
        return grid_of(volume)
    try:
        with open_image(volume) as file:
            if not isinstance(file, NiftiFile):
                return None
            first, second, third = file.shape
            return Grid((first, second, third), file.affine)
    except UserError:  # reported when its slices are read
        return None


def _features(grid: Grid) -> dict[str, str]:
    axes = optional_package("nibabel.orientations").aff2axcodes(grid.affine)
    rows = (" ".join(f"{value:g}" for value in row) for row in np.round(grid.affine[:3], 3) + 0.0)
    return {
        "grid": " × ".join(map(str, grid.shape)),
        "spacing": " × ".join(f"{value:.4g}" for value in grid.spacing) + " mm",
        "orientation": "".join(axes),
        "affine": f"[{'; '.join(rows)}]",
    }
