"""VOLUME_INDEX: which volume of a NIfTI file of four dimensions is read."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from datasets.folders.samples import Sample, Split
from datasets.readers.formats import kind_of, shown
from datasets.readers.image import count_volumes
from utils.errors import UserError

logger = logging.getLogger(__name__)


def choose_volume(samples: Iterable[Sample], index: int) -> tuple[Sample, ...]:
    """The samples, those of files of several volumes with the one that is asked for.

    One warning tells that the others are left out.
    """
    counts = cache(_count)
    chosen = [replace(each, volume=index) if counts(each.path) > 1 else each for each in samples]
    several = sorted({each.path for each in chosen if counts(each.path) > 1})
    if several:
        logger.warning(
            "%d files hold several volumes, such as %s (%d): VOLUME_INDEX = %d is read, the others "
            "are left out",
            len(several),
            shown(several[0]),
            counts(several[0]),
            index,
        )
    return tuple(chosen)


def of_volume(split: Split, index: int) -> Split:
    """A split with the samples of :func:`choose_volume`."""
    return replace(split, samples=choose_volume(split.samples, index))


def _count(path: Path) -> int:
    try:
        return count_volumes(path) if kind_of(path) == "nifti" else 1
    except UserError:
        # Reading the file says what is wrong with it.
        return 1
