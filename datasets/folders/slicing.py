"""SLICE_AXIS and VOLUME_INDEX: which slices of which volume of a NIfTI file are read."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.folders.samples import Sample
from datasets.readers.base import SliceAxis
from datasets.readers.formats import kind_of, shown
from datasets.readers.image import open_image
from utils.config.schema import SectionConfig
from utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slicing:
    """How volumes become images."""

    axis: SliceAxis = "axial"  # SLICE_AXIS, along which they are cut
    volume: int = 0  # VOLUME_INDEX, from 0: which one of files of four dimensions

    @classmethod
    def of(cls, config: SectionConfig) -> Slicing:
        """As a section of the config sets it."""
        return cls(config.slice_axis, config.volume_index)


AXIAL = Slicing()


def choose_volume(samples: Iterable[Sample], index: int) -> tuple[Sample, ...]:
    """The samples; files of several volumes are read at ``index``.

    One warning says that their other volumes are not read.
    """
    samples = list(samples)
    files = dict.fromkeys(each.path for each in samples if each.series is None)
    counts = {path: _count(path) for path in files}
    several = sorted(path for path, count in counts.items() if count > 1)
    if several:
        logger.warning(
            "%s; reading only volume %d (VOLUME_INDEX)",
            _several(several[0], counts[several[0]], len(several)),
            index,
        )
    return tuple(
        replace(each, volume=index) if counts.get(each.path, 1) > 1 else each for each in samples
    )


def _several(example: Path, volumes: int, files: int) -> str:
    if files == 1:
        return f"{shown(example)} has {volumes} volumes"
    return f"{files} files have several volumes, such as {shown(example)} ({volumes})"


def _count(path: Path) -> int:
    # Reading the file later reports the error.
    with suppress(UserError):
        if kind_of(path) == "nifti":
            with open_image(path) as file:
                return file.num_volumes
    return 1
