"""What to predict on: files, or the image files of folders."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from glob import glob, has_magic
from itertools import chain
from pathlib import Path

from datasets.folders.layouts import MASK_FOLDERS, list_images, walk_folders
from datasets.folders.samples import Sample, expand_frames
from datasets.folders.series_samples import with_series
from datasets.folders.slicing import AXIAL, Slicing, choose_volume
from datasets.readers.formats import KINDS, absolute, shown
from utils.errors import UserError

logger = logging.getLogger(__name__)


def expand_names(names: Sequence[str], stdin: Iterable[str]) -> list[Path]:
    """Paths as users give them.

    Args:
        names: Paths; patterns with ``*``, ``?`` or ``[…]`` that the shell left alone, ``**`` for
            any folders; ``-`` for a list of paths on ``stdin``, one per line.
        stdin: Lines.

    Raises:
        UserError: A pattern matches nothing, or a list is empty.
    """
    paths: list[Path] = []
    for name in names:
        path = os.path.expanduser(name)  # noqa: PTH111, since Path raises where ~x.png is no user
        if name == "-":
            found = [line.rstrip("\r\n") for line in stdin if line.strip()]
        elif has_magic(name) and not os.path.lexists(name):
            found = sorted(glob(path, recursive=True))  # noqa: PTH207, since Path finds hidden files
        else:
            found = [path]
        if not found:
            raise UserError(f"--input: no files found for {shown(Path(name))}")
        paths += map(Path, found)
    return list(dict.fromkeys(paths))


def find_inputs(
    paths: Sequence[Path],
    recursive: bool = False,
    *,
    slicing: Slicing = AXIAL,
    problems: list[tuple[Path, str]] | None = None,
) -> tuple[Sample, ...]:
    """The images of files and folders as samples without a label.

    DICOM files of one volume are grouped. A file that cannot be read stays a sample; reading it
    later raises the error that names it.

    Args:
        paths: Files of any suffix, and folders, whose files come in the order of their paths.
        recursive: Whether to search subfolders too, except those of masks, such as ``label``.
            Links are followed; each folder is entered once.
        slicing: How volumes become images.
        problems: Receives, with a reason each, missing paths among existing ones and DICOM series
            that cannot be put in order; the files of these series stay.

    Returns:
        One sample per frame.

    Raises:
        UserError: No path exists, or a folder cannot be listed or contains no image.
    """
    problems = [] if problems is None else problems
    files: dict[Path, Path] = {}
    missing: list[tuple[Path, str]] = []
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110, which raises on long names
            missing.append((path, f"{shown(path)}: no such file or folder"))
            continue
        for file in _files(path, recursive):
            files.setdefault(absolute(file), file)
    if missing and not files:
        raise UserError(missing[0][1])
    problems += missing
    sources = with_series([*files.values()], problems)
    if not sources:
        raise UserError(f"{shown(paths[0])}: contains no images to score")
    frames = (expand_frames(Sample.of(source, axis=slicing.axis)) for source in sources)
    return choose_volume(chain.from_iterable(frames), slicing.volume)


def _files(path: Path, recursive: bool) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = False
    for each in walk_folders(path) if recursive else [path]:
        if any(name.casefold() in MASK_FOLDERS for name in each.relative_to(path).parts):
            if each.name.casefold() in MASK_FOLDERS:
                logger.warning("%s: skipping this folder of masks", shown(each))
            continue
        for file in list_images(each, KINDS):
            found = True
            yield file
    if not found:
        hint = "" if recursive else "; use --recursive to search subfolders"
        raise UserError(f"{shown(path)}: contains no images{hint}")


def common_folder(paths: Sequence[Path]) -> Path:
    """The deepest folder of all paths that exist; absolute, without ``..``.

    Raises:
        UserError: They are on several drives.
    """
    there = [path for path in paths if path.exists()]
    folders = [path if path.is_dir() else path.parent for path in there or paths]
    try:
        return Path(os.path.commonpath(map(absolute, folders)))
    except ValueError as error:
        raise UserError("--input: the files are on different drives; run once per drive") from error
