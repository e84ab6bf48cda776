"""Data sets of small pictures, as the tests of folders and of the check draw them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.check.findings import check_dataset
from datasets.folders.samples import Split
from datasets.folders.splits import places_of_folder


def put(
    root: Path, *names: str, levels: Iterable[int] | None = None, shape: tuple[int, ...] = (6, 8)
) -> None:
    """Pictures that all differ, or that hold the given levels."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(name.encode())).integers(0, 256, shape, dtype=np.uint8)
        filled = None if levels is None else np.resize(np.array(list(levels), np.uint8), shape)
        Image.fromarray(noise if filled is None else filled).save(path)


def put_masks(root: Path, *names: str) -> None:
    """Masks that mark something."""
    put(root, *names, levels=(0, 255))


def described(split: Split, root: Path) -> list[tuple[str, int | None, str | None]]:
    """(path, label, mask) of each sample, relative to a folder."""
    return [
        (
            str(sample.path.relative_to(root)),
            sample.label,
            sample.mask and str(sample.mask.relative_to(root)),
        )
        for sample in split.samples
    ]


def found(folder: Path, **options: Any) -> list[tuple[str, str, str]]:
    """(severity, kind, text) of what a check finds, texts relative to the folder."""
    report = check_dataset(places_of_folder(folder), **options)
    return [
        (each.severity, each.kind, each.text.replace(f"{folder}/", "")) for each in report.findings
    ]
