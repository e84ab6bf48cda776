"""Every file of a split read once before it is used, so that a bad one is found early."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

from datasets.images import read_image, read_mask
from datasets.samples import Sample, Split, mask_of_another_size, mask_without_mark
from utils.errors import UserError
from utils.intensity import IntensityWindow

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

_THREADS = 8
_CHUNK = 256


def verify_samples(split: Split, window: IntensityWindow) -> None:
    """Decode every image and mask once and keep nothing.

    A mask of an anomalous image that marks nothing gives a warning.

    Raises:
        UserError: With every file that cannot be read, or whose mask has another size.
    """

    def read(sample: Sample) -> tuple[Sequence[int], None]:
        image = read_image(
            sample.path, window, sample.frame, axis=sample.axis, volume=sample.volume
        )
        return image.shape[:2], None

    for _ in verified(split.samples, read, "checking files"):
        pass


def verified(
    samples: Sequence[Sample],
    read: Callable[[Sample], tuple[Sequence[int], Value]],
    description: str,
) -> Iterator[Value]:
    """What ``read`` makes of each sample, in order, with all masks read and compared.

    Args:
        samples: The samples.
        read: Sample → (height, width) of its image, and what is yielded; called in threads.
        description: What the progress bar says.

    Raises:
        UserError: At the end, as for :func:`verify_samples`; nothing is yielded any more once a
            bad file was met.
    """
    problems, warnings, rest = [], [], iter(samples)
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(samples), desc=description, unit="file", leave=False, delay=2) as bar,
    ):
        while chunk := list(islice(rest, _CHUNK)):
            for value, problem, warning in pool.map(lambda each: _look(each, read), chunk):
                bar.update()
                problems += [problem] if problem else []
                warnings += [warning] if warning else []
                if value is not None and not problems:
                    yield value[0]
    if problems:
        raise UserError("\n".join(problems))
    for warning in warnings:
        logger.warning("%s", warning)


def _look(
    sample: Sample, read: Callable[[Sample], tuple[Sequence[int], Value]]
) -> tuple[tuple[Value] | None, str, str]:
    """What ``read`` gives, boxed, None where it fails; what is wrong; what is odd."""
    try:
        size, value = read(sample)
        if sample.mask is None:
            return (value,), "", ""
        mask = read_mask(sample.mask, sample.frame, axis=sample.axis, image=sample.path)
    except UserError as error:
        return None, str(error), ""
    if tuple(size) != mask.shape:
        return None, mask_of_another_size(sample, size, mask.shape), ""
    return (value,), "", "" if mask.any() else mask_without_mark(sample)
