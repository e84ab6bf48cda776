"""CACHE_IMAGES: images that are decoded, windowed and resized once, in memory or in one file.

Kept are the results of :meth:`AnomalyDataset.resized`; augmentation comes after it. If all images
are grey, one channel is kept: three equal ones become the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from numpy.lib.format import open_memmap
from torch import Tensor

from datasets.dataset import AnomalyDataset
from datasets.folders.samples import Split
from datasets.folders.scan import check_headers, scan
from datasets.folders.series_samples import files_of
from datasets.readers.formats import shown
from datasets.readers.image import Source
from utils.config.schema import SectionConfig
from utils.errors import UserError
from utils.memory import available_memory

logger = logging.getLogger(__name__)

Mode = Literal["none", "ram", "disk"]

# Raise it with every change of reading, windows or resizing that changes an image's bytes.
CACHE_VERSION = 2
_PACKAGES = (
    *("numpy", "torch", "torchvision", "pillow", "tifffile", "imagecodecs"),
    *("pydicom", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "nibabel"),
)


class MappedImages:
    """(N, 1 or 3, size, size) uint8 in a .npy file; all processes share one copy of its pages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.array = open_memmap(path, mode="r")

    def __reduce__(self) -> tuple[type[MappedImages], tuple[Path]]:
        # A spawned process maps the file itself, so no pixels are sent.
        return MappedImages, (self.path,)

    def __getitem__(self, index: int) -> Tensor:
        """(1 or 3, size, size) uint8."""
        # Copied, because tensors cannot be read-only.
        return torch.from_numpy(np.array(self.array[index]))


def checked_dataset(split: Split, config: SectionConfig) -> AnomalyDataset:
    """A split whose every header was read, its images kept as CACHE_IMAGES says."""
    folder = config.cache_dir[0] / "images"
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
        UserError: As for :func:`datasets.folders.scan.check_headers`; if images are kept, also
            with every image that cannot be read, or because space is short or the folder cannot
            be written.
    """
    check_headers(dataset.split)
    if mode == "none":
        return dataset
    images = _in_memory(dataset, processes) if mode == "ram" else _on_disk(dataset, folder)
    return replace(dataset, images=images)


def _filled(
    dataset: AnomalyDataset, allocate: Callable[[tuple[int, ...]], Any], channels: int = 1
) -> Any:
    """(N, 1 or 3, size, size); restarted with three channels at the first colour image.

    Raises:
        UserError: With every image that cannot be read.
    """
    images = allocate((len(dataset), channels, dataset.size, dataset.size))
    problems = []
    found = scan(range(len(dataset)), partial(_read, dataset), "reading images")
    for index, image in enumerate(found):
        if isinstance(image, str):
            problems.append(image)
        elif len(image) > channels:
            return _filled(dataset, allocate, len(image))
        else:
            images[index] = image
    if problems:
        raise UserError("\n".join(problems))
    return images


def _read(dataset: AnomalyDataset, index: int) -> Tensor | str:
    """(1 or 3, size, size), one channel where three are equal; or why it cannot be read."""
    try:
        image = dataset.resized(index)
    except UserError as error:
        return str(error)
    return image[:1] if (image == image[:1]).all() else image


def _in_memory(dataset: AnomalyDataset, processes: int) -> Tensor:
    """(N, 1 or 3, size, size); loader workers see it without a copy.

    Forked ones never write to it; for spawned ones, torch moves it to shared memory.
    """

    def allocate(shape: tuple[int, ...]) -> Tensor:
        _check_room("ram", processes * prod(shape), available_memory(), "of memory")
        return torch.empty(shape, dtype=torch.uint8)

    images: Tensor = _filled(dataset, allocate)
    _log("kept in memory", dataset, images.shape)
    return images


def _check_room(mode: Mode, needed: int, available: int | None, of_what: str) -> None:
    if available is not None and needed > available:
        raise UserError(
            f"CACHE_IMAGES = {mode}: needs {needed / 1e9:.3g} GB {of_what}, but only "
            f"{available / 1e9:.3g} GB is free; free some, or set CACHE_IMAGES = none"
        )


def _on_disk(dataset: AnomalyDataset, folder: Path) -> MappedImages:
    """Load the images of an earlier run, or build them."""
    path = folder / cache_key(dataset) / "images.npy"
    # A file is complete or missing, so looking for one needs no lock.
    images, what = _load(path, dataset), "found"
    if images is None:
        try:
            with _alone_in(path.parent):
                images = _load(path, dataset)
                if images is None:
                    images, what = _build(path, dataset), "kept"
        except OSError as error:
            raise UserError(
                f"CACHE_IMAGES = disk: {shown(path)}: cannot be written ({error}); set CACHE_DIR "
                "to a writable folder with enough space, or set CACHE_IMAGES = none"
            ) from error
    _log(f"{what} in {shown(path)}", dataset, images.array.shape)
    return images


def _alone_in(folder: Path) -> AcquireReturnProxy:
    """Make a folder, and keep other processes out of it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        logger.info("waiting for another process that is reading the same images")
        return lock.acquire()


def _load(path: Path, dataset: AnomalyDataset) -> MappedImages | None:
    """The images in a file; None where it is missing or, with a warning, damaged."""
    count, size = len(dataset), dataset.size
    try:
        images = MappedImages(path)
        shape, dtype = images.array.shape, images.array.dtype
        if shape not in [(count, channels, size, size) for channels in (1, 3)] or dtype != np.uint8:
            raise ValueError(f"it contains {dtype} of shape {shape}")
    except FileNotFoundError:
        return None
    # NumPy raises anything on bytes that it did not expect.
    except Exception as error:
        logger.warning("%s: is damaged (%s); rebuilding it", shown(path), error)
        with suppress(OSError):
            path.unlink()
        return None
    return images


def _build(path: Path, dataset: AnomalyDataset) -> MappedImages:
    """Write the file, whole or not at all; memory does not grow with it."""
    # A killed process may have left this file; it is overwritten.
    part = path.with_suffix(".part")

    def allocate(shape: tuple[int, ...]) -> Any:
        free = shutil.disk_usage(path.parent).free
        _check_room("disk", prod(shape), free, f"in {shown(path.parent)}")
        images = open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # If a quota is used up, this raises; a write to a mapped file would kill the process.
            with part.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
        return images

    try:
        _filled(dataset, allocate).flush()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return MappedImages(path)


def cache_key(dataset: AnomalyDataset) -> str:
    """32 hexadecimal digits of files, sizes, times of change, settings and versions."""

    @cache  # volumes hold many images
    def state(source: Source) -> str:
        found = [path.stat() for path in sorted(files_of(source))]
        text = ascii([(each.st_size, each.st_mtime_ns) for each in found])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    files = [
        (each.path.absolute().as_posix(), each.frame, each.axis, each.volume, state(each.source))
        for each in dataset.split.samples
    ]
    versions = [CACHE_VERSION, *map(_version, _PACKAGES)]
    parts = (versions, dataset.size, dataset.window, files)
    return hashlib.blake2b(ascii(parts).encode(), digest_size=16).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _log(what: str, dataset: AnomalyDataset, shape: Sequence[int]) -> None:
    colours = "grey" if shape[1] == 1 else "colour"
    folder, size = shown(dataset.split.folder), prod(shape) / 1e9
    logger.info("%d images of %s %s: %.3g GB, %s", len(dataset), folder, what, size, colours)
