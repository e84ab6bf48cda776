"""The folders of a split: which hold images and masks, and what lies where nothing reads it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from datasets.folders.samples import ANOMALOUS, NORMAL
from datasets.readers.formats import Kind, kind_of, shown
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Names of folders, in any case of letters.
NORMAL_NAMES = ("good", "normal")
ANOMALOUS_NAMES = ("ungood", "abnormal", "anomaly", "anomalous", "defect")
# BMAD's own names come first: another folder beside one of these is no mask folder.
_BMAD_MASKS = ("label", "anomaly_mask")
GROUND_TRUTH = "ground_truth"
MASK_FOLDERS = (*_BMAD_MASKS, "labels", "mask", "masks", "segmentation", GROUND_TRUTH, "gt")
# An index of the files around it, and what systems leave behind: macOS puts a folder of the last
# name into its zips.
_JUNK = ("dicomdir", "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")

# What is not read, and what to do.
_UNREAD = (
    "image is not read",
    "images are not read",
    "docs/data.md says where images are looked for",
)
_NO_IMAGES = ("file is no image by name", "files are no images by name", "convert or remove them")

PICTURES: tuple[Kind, ...] = ("picture",)


@dataclass(frozen=True)
class ClassFolder:
    """Where images of one label lie.

    Attributes:
        folder: The class folder, e.g. ``test/Ungood``.
        label: 0 normal, 1 anomalous.
        images: ``folder`` itself, or ``img/`` in it.
        masks: Their masks' folder; None where there is none.
    """

    folder: Path
    label: int
    images: Path
    masks: Path | None


def class_folders(split: Path) -> list[ClassFolder]:
    """The class folders of a split.

    Where ``ground_truth`` lies in or beside the split, as in MVTec's layout, each folder that has
    one of its name in there is a class of anomalous images.

    Raises:
        UserError: A folder cannot be listed, or two could be meant.
    """
    truth = _ground_truth(split)
    classes = normal_folders(split, truth)
    for folder in subfolders(split):
        name = folder.name.casefold()
        defect = truth is not None and _inner_folder(truth, name) is not None
        if name in ANOMALOUS_NAMES or (defect and name not in NORMAL_NAMES):
            classes.append(_class_folder(folder, ANOMALOUS, truth))
    return classes


def normal_folders(split: Path, truth: Path | None = None) -> list[ClassFolder]:
    """The folder of a split's normal images, none where it has none.

    Args:
        split: The split's folder.
        truth: Where MVTec's layout has the masks.

    Raises:
        UserError: There are two, or one cannot be listed.
    """
    found = [each for each in subfolders(split) if each.name.casefold() in NORMAL_NAMES]
    if len(found) > 1:
        raise UserError(
            f"{shown(split)}: {shown(Path(found[0].name))} and {shown(Path(found[1].name))} may "
            "both hold the normal images; keep one of them"
        )
    return [_class_folder(each, NORMAL, truth) for each in found]


def flat_folder(folder: Path) -> ClassFolder:
    """A folder of normal images that has no class folders."""
    return _class_folder(folder, NORMAL)


def _ground_truth(split: Path) -> Path | None:
    found = _inner_folder(split, GROUND_TRUTH)
    # The folder around it may be closed to us, and be none of the data set's.
    with suppress(UserError):
        found = found or _inner_folder(split.parent, GROUND_TRUTH)
    return found


def _inner_folder(folder: Path, name: str) -> Path | None:
    """The folder of a name in another one, in any case of letters."""
    inner = subfolders(folder)
    return next((each for each in inner if each.name.casefold() == name.casefold()), None)


def _class_folder(folder: Path, label: int, truth: Path | None = None) -> ClassFolder:
    inner = subfolders(folder)
    images = _inner_folder(folder, "img") or folder
    masks = _mask_folder(folder, inner)
    if masks is None and truth is not None:
        masks = _inner_folder(truth, folder.name)
    return ClassFolder(folder, label, images, masks)


def _mask_folder(folder: Path, inner: Iterable[Path]) -> Path | None:
    named = {each.name.casefold(): each for each in inner}
    found = [named[name] for name in MASK_FOLDERS if name in named]
    if len(found) > 1 and found[0].name.casefold() not in _BMAD_MASKS:
        raise UserError(
            f"{shown(folder)}: {shown(Path(found[0].name))} and {shown(Path(found[1].name))} may "
            "both hold the masks; keep one of them, or name it label"
        )
    return found[0] if found else None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones.

    Raises:
        UserError: The folder cannot be listed.
    """
    return [path for path, is_folder in _listed(folder) if is_folder]


def list_images(
    folder: Path, kinds: Collection[Kind] = PICTURES, *, tell: bool = True
) -> list[Path]:
    """The image files directly in a folder, sorted; hidden files are left out.

    Args:
        folder: The folder.
        kinds: Which formats to list.
        tell: Whether a warning tells of files of others.

    Raises:
        UserError: The folder cannot be listed.
    """
    found = {path: kind_of(path) for path, is_folder in _listed(folder) if not is_folder}
    others = [path for path, kind in found.items() if kind not in kinds]
    if others and tell:
        tell_once(_line(folder, len(others), Path(others[0].name), _NO_IMAGES))
    return [path for path, kind in found.items() if kind in kinds]


def _listed(folder: Path) -> list[tuple[Path, bool]]:
    """What is in a folder and whether it is one, sorted."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, _is_folder(entry)) for entry in entries]
    except OSError as error:
        raise UserError(
            f"{shown(folder)}: cannot be listed ({error.strerror}); fix its permissions"
        ) from error
    return sorted(
        (folder / name, is_folder)
        for name, is_folder in found
        if not name.startswith(".") and name.casefold() not in _JUNK
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link in a circle stays, as one that leads nowhere does: reading it says so.
        return False


@cache
def tell_once(line: str) -> None:
    """Warn once in a process, however often a folder is listed."""
    logger.warning("%s", line)


def walk_folders(top: Path) -> Iterator[Path]:
    """A folder and all below it, hidden ones left out; links are followed once."""
    entered = {_identity(top)}
    for name, inner, _ in os.walk(top, followlinks=True):
        folder = Path(name)
        yield folder
        kept = []
        for each in sorted(inner):
            hidden = each.startswith(".") or each.casefold() in _JUNK
            if not hidden and (identity := _identity(folder / each)) not in entered:
                entered.add(identity)
                kept.append(each)
        inner[:] = kept


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def unread_files(split: Path, classes: Iterable[ClassFolder]) -> list[str]:
    """What a split holds and nothing reads: one line for each folder and sort, with an example.

    Args:
        split: The split's folder.
        classes: The class folders that are read.

    Raises:
        UserError: A folder cannot be listed.
    """
    read, anchors = set[Path](), {split}
    for each in classes:
        used = {each.images, each.masks or each.images}
        read |= used
        anchors |= used | {each.folder}
    outside = {path.parent for path in read if not path.is_relative_to(split)}
    counts = Counter[tuple[Path, tuple[str, str, str]]]()
    examples: dict[tuple[Path, tuple[str, str, str]], Path] = {}
    for root in (split, *sorted(outside)):
        for folder in walk_folders(root):
            anchor = next((up for up in (folder, *folder.parents) if up in anchors), root)
            for path in (path for path, is_folder in _listed(folder) if not is_folder):
                sort = _UNREAD if kind_of(path) else _NO_IMAGES
                if sort is _NO_IMAGES or folder not in read:
                    counts[anchor, sort] += 1
                    examples.setdefault((anchor, sort), path.relative_to(anchor))
    return [
        _line(anchor, count, examples[anchor, sort], sort)
        for (anchor, sort), count in counts.items()
    ]


def _line(folder: Path, count: int, example: Path, sort: tuple[str, str, str]) -> str:
    one, several, remedy = sort
    what = one if count == 1 else several
    return f"{shown(folder)}: {count} {what}, such as {shown(example)}; {remedy}"
