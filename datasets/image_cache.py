"""CACHE_IMAGES: images that are decoded, windowed and resized once, in memory or in one file.

What is kept is what :meth:`AnomalyDataset.resized` gives; augmentation comes after it. Where all
images are grey, one channel is kept: three equal ones become the same bytes.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datasets.anomaly_dataset import AnomalyDataset
from datasets.formats import shown
from datasets.image_file import MappedImages, alone_in, load_images, write_images
from datasets.image_key import cache_key
from datasets.samples import Split
from datasets.scan import check_headers, scan
from utils.errors import UserError
from utils.memory import available_memory
from utils.schema import SectionConfig

logger = logging.getLogger(__name__)

Mode = Literal["none", "ram", "disk"]


def checked_dataset(split: Split, config: SectionConfig) -> AnomalyDataset:
    """A split whose every header was read, its images kept as CACHE_IMAGES says.

    Raises:
        UserError: As for :func:`keep_images`.
    """
    folder = Path(config.cache_dir[0]).expanduser() / "images"
    dataset = AnomalyDataset.of(split, config)
    return keep_images(dataset, config.cache_images, folder, processes=config.devices)


def keep_images(
    dataset: AnomalyDataset, mode: Mode, folder: Path, *, processes: int = 1
) -> AnomalyDataset:
    """Look at every header of a data set; the same data set, with its images kept.

    Args:
        dataset: The data set.
        mode: Where images are kept.
        folder: Where ``disk`` puts them.
        processes: Processes of this machine that keep a copy each in ``ram``.

    Raises:
        UserError: As for :func:`datasets.scan.check_headers`, or with every image that cannot be
            read where they are kept; or there is no room, or the folder cannot be written.
    """
    check_headers(dataset.split)
    if mode == "none":
        return dataset
    images = _in_memory(dataset, processes) if mode == "ram" else _on_disk(dataset, folder)
    return replace(dataset, images=images)


def _read(dataset: AnomalyDataset) -> Iterator[Tensor]:
    """(1 or 3, size, size) of each image, one channel where three are equal.

    Raises:
        UserError: At the end, with every image that cannot be read; nothing is yielded any more
            once there was one.
    """

    def read(index: int) -> Tensor | str:
        try:
            image = dataset.resized(index)
        except UserError as error:
            return str(error)
        return image[:1] if (image == image[:1]).all() else image

    problems = []
    for image in scan(range(len(dataset)), read, "reading images"):
        if isinstance(image, str):
            problems.append(image)
        elif not problems:
            yield image
    if problems:
        raise UserError("\n".join(problems))


def _in_memory(dataset: AnomalyDataset, processes: int) -> Tensor:
    """(N, 1 or 3, size, size); loader workers see it without a copy.

    They are forked and never write to it. Where they are spawned, torch moves it to shared memory.
    """

    def allocate(channels: int) -> Tensor:
        shape = (len(dataset), channels, dataset.size, dataset.size)
        _check_room("ram", processes * int(np.prod(shape)), available_memory(), "of memory")
        return torch.empty(shape, dtype=torch.uint8)

    images = allocate(1)
    for index, image in enumerate(_read(dataset)):
        if len(image) > images.shape[1]:
            narrow, images = images, allocate(3)
            images[:index] = narrow[:index]
        images[index] = image
    _log("kept in memory", dataset, images.shape)
    return images


def _check_room(mode: Mode, needed: int, available: int | None, of_what: str) -> None:
    if available is not None and needed > available:
        raise UserError(
            f"CACHE_IMAGES = {mode}: needs {needed / 1e9:.3g} GB {of_what}, and "
            f"{available / 1e9:.3g} GB are left; make room, or set CACHE_IMAGES = none"
        )


def _on_disk(dataset: AnomalyDataset, cache: Path) -> MappedImages:
    """Those of an earlier run, or else read now."""
    # A folder of its own for each key: what else lies in it, a killed process has left.
    path = cache / cache_key(dataset) / "images.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(f"{shown(path.parent)}: cannot be made ({error})") from error
    with alone_in(path.parent) as locked:
        images = load_images(path, len(dataset), dataset.size)
        if images is None:
            for left_over in path.parent.glob(".tmp-*") if locked else ():
                with suppress(OSError):
                    left_over.unlink()
            return _build(path, dataset)
    _log(f"found in {shown(path)}", dataset, images.array.shape)
    return images


def _build(path: Path, dataset: AnomalyDataset) -> MappedImages:
    free = shutil.disk_usage(path.parent).free
    _check_room("disk", len(dataset) * dataset.size**2, free, f"in {shown(path.parent)}")
    try:
        write_images(path, _read(dataset), len(dataset), dataset.size)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise _not_writable(str(error)) from error
        raise
    images = MappedImages(path)
    _log(f"kept in {shown(path)}", dataset, images.array.shape)
    return images


def _not_writable(text: str) -> UserError:
    advice = "give a CACHE_DIR with room that may be written, or set CACHE_IMAGES = none"
    return UserError(f"CACHE_IMAGES = disk: {text}; {advice}")


def _log(what: str, dataset: AnomalyDataset, shape: Sequence[int]) -> None:
    colours = "grey" if shape[1] == 1 else "colour"
    folder, size = shown(dataset.split.folder), int(np.prod(shape)) / 1e9
    logger.info("%d images of %s %s: %.3g GB, %s", len(dataset), folder, what, size, colours)
