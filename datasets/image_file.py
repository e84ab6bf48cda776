"""Images of one size in one .npy file, written whole or not at all, and mapped into memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from datasets.formats import shown
from utils.checkpoints import write_atomically

logger = logging.getLogger(__name__)


class MappedImages:
    """(N, 1 or 3, size, size) uint8; all processes share one copy, in the system's cache.

    Args:
        path: The file.

    Raises:
        Exception: The file is missing or damaged; of any type.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.array = np.lib.format.open_memmap(path, mode="r")

    def __reduce__(self) -> tuple[type[MappedImages], tuple[Path]]:
        # A process that is spawned maps the file for itself: the pixels do not travel.
        return MappedImages, (self.path,)

    def __getitem__(self, index: int) -> Tensor:
        """(1 or 3, size, size) uint8."""
        # Copied, because tensors cannot be read-only.
        return torch.from_numpy(np.array(self.array[index]))


def load_images(path: Path, count: int, size: int) -> MappedImages | None:
    """The images in a file; None where it is missing or, with a warning, damaged."""
    try:
        images = MappedImages(path)
        shape, dtype = images.array.shape, images.array.dtype
        if shape not in [(count, channels, size, size) for channels in (1, 3)] or dtype != np.uint8:
            raise ValueError(f"it holds {dtype} of shape {shape}")
    except FileNotFoundError:
        return None
    # NumPy raises anything on bytes that it did not expect.
    except Exception as error:
        logger.warning("%s: is damaged (%s); it is made anew", shown(path), error)
        return None
    return images


def write_images(path: Path, images: Iterable[Tensor], count: int, size: int) -> None:
    """Write a file that :func:`load_images` reads; memory does not grow with it.

    Args:
        path: The file.
        images: (1 or 3, size, size) uint8 each; one channel is kept where all have one.
        count: How many they are.
        size: Pixels along each side.

    Raises:
        UserError: As for :func:`utils.checkpoints.write_atomically`; no part is left behind.
    """

    def write_header(file: IO[bytes], channels: int) -> int:
        shape = (count, channels, size, size)
        file.seek(0)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        return file.tell()

    def write(file: IO[bytes]) -> None:
        # Image after image: writing to a mapped file kills the process where the disk is full.
        channels, start = 1, write_header(file, 1)
        for index, image in enumerate(images):
            if len(image) > channels:
                channels = len(image)
                _widen(file, start, index, size**2)
            file.write(image.expand(channels, -1, -1).numpy().tobytes())
        # As long as the first one, whatever the number of channels.
        write_header(file, channels)

    write_atomically(path, write)


def _widen(file: IO[bytes], start: int, count: int, plane: int) -> None:
    """Make three channels of one, in place and from behind; the file then stands at its end."""
    for index in reversed(range(count)):
        file.seek(start + index * plane)
        pixels = file.read(plane)
        file.seek(start + 3 * index * plane)
        file.write(3 * pixels)
    file.seek(start + 3 * count * plane)


@contextmanager
def alone_in(folder: Path) -> Iterator[bool]:
    """Keep other processes out of a folder; a killed process's lock goes with it.

    False where there are no locks (Windows, some network drives): several may write there, each
    renames a whole file, and the last one stays.
    """
    with ExitStack() as stack:
        locked = False
        with suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("waiting for another process that reads the same images")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            locked = True
        yield locked
