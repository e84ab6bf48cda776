"""Looks at many files in a few threads, and checks all headers before a run starts."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from datasets.folders.samples import Sample, Split, mask_of_another_size
from datasets.readers.image import read_size
from utils.errors import UserError

Item = TypeVar("Item")
Value = TypeVar("Value")

_THREADS = 8
# How many items to look at ahead; their results are held in memory.
_CHUNK = 256


def progress(items: Sequence[Item], description: str, unit: str) -> "tqdm[Item]":
    """A progress bar for items that are usually done at once."""
    return tqdm(items, description, unit=unit, leave=False, delay=2, disable=None)


def scan(items: Sequence[Item], look: Callable[[Item], Value], description: str) -> Iterator[Value]:
    """The result of ``look`` for each item, in order."""
    with ThreadPoolExecutor(_THREADS) as pool, progress(items, description, "image") as bar:
        for start in range(0, len(items), _CHUNK):
            for value in pool.map(look, items[start : start + _CHUNK]):
                bar.update()
                yield value


def check_headers(split: Split) -> None:
    """Read the header of every image and mask, and compare their sizes; no pixel is decoded.

    Raises:
        UserError: With every file whose header cannot be read or whose mask differs in size.
    """
    problems = [each for each in scan(split.samples, _problem_of, "checking headers") if each]
    if problems:
        raise UserError("\n".join(problems))


def _problem_of(sample: Sample) -> str:
    """What is wrong with the headers of an image and its mask, or ""."""
    frame, axis = sample.frame, sample.axis
    try:
        size = read_size(sample.source, frame, axis=axis, volume=sample.volume)
        if sample.mask is None:
            return ""
        mask_size = read_size(sample.mask, frame, axis=axis, mask_of=sample.source)
    except UserError as error:
        return str(error)
    return "" if size == mask_size else mask_of_another_size(sample, size, mask_size)
