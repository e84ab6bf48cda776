"""What to predict on: a file, or the image files of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets.folders.layouts import list_images, walk_folders
from datasets.folders.samples import Sample, expand_frames
from datasets.readers.base import SliceAxis
from datasets.readers.formats import KINDS, shown
from utils.errors import UserError


def find_inputs(
    path: Path, recursive: bool = False, *, axis: SliceAxis = "axial"
) -> Iterator[Sample]:
    """The images of a file or folder as samples without a label, in the order of their paths.

    Headers are read when their turn comes. A file that cannot be read stays a sample: reading it
    raises the error that names it.

    Args:
        path: A file of any suffix, or a folder.
        recursive: Whether to search the folder's subfolders as well. Links are followed, each
            folder is entered once.
        axis: How volumes are cut.

    Yields:
        One sample a frame.

    Raises:
        UserError: At once where the path does not exist; while iterating where a folder cannot be
            listed, or at the end if there was no image in it.
    """
    if not path.exists():
        raise UserError(f"{shown(path)}: no such file or folder")
    files = _files(path, recursive) if path.is_dir() else iter([path])
    return (frame for file in files for frame in expand_frames(Sample(file, None, axis=axis)))


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    found = False
    for each in walk_folders(folder) if recursive else [folder]:
        for path in list_images(each, KINDS):
            found = True
            yield path
    if not found:
        hint = "" if recursive else "; subfolders are searched with --recursive"
        raise UserError(f"{shown(folder)}: holds no images{hint}")
