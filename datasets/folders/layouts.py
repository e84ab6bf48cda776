"""The folders of a split: which ones have images and masks, and which files are ignored."""

import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datasets.folders.samples import ANOMALOUS, NORMAL
from datasets.readers.formats import KINDS, Kind, kind_of, shown
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Names of folders, in upper or lower case.
NORMAL_NAMES = ("good", "normal")
ANOMALOUS_NAMES = ("ungood", "abnormal", "anomaly", "anomalous", "defect")
# BMAD's own names come first: another folder beside one of these is not a mask folder.
_BMAD_MASKS = ("label", "anomaly_mask")
GROUND_TRUTH = "ground_truth"
MASK_FOLDERS = (*_BMAD_MASKS, "labels", "mask", "masks", "segmentation", GROUND_TRUTH, "gt")
# DICOM's directory file, and files that operating systems create: the last is a folder that macOS
# puts into its zips.
_JUNK = ("dicomdir", "thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")

# Files that are not read: singular, plural, and what to do.
_UNREAD = (
    "image is ignored",
    "images are ignored",
    "docs/data.md says where images must be",
)
_NO_IMAGES = (
    "file does not have the name of an image",
    "files do not have the name of an image",
    "convert or remove them",
)

PICTURES: tuple[Kind, ...] = ("picture",)
_DICOM: tuple[Kind, ...] = ("dicom",)


@dataclass(frozen=True)
class ClassFolder:
    """Where images of one label lie."""

    folder: Path  # the class folder, e.g. ``test/Ungood``
    label: int  # 0 normal, 1 anomalous
    images: Path  # ``folder`` itself, or ``img/`` in it
    masks: Path | None  # their masks' folder; None if there is none


def class_folders(split: Path, *, normal_only: bool) -> list[ClassFolder]:
    """The class folders of a split.

    With ``ground_truth`` in or beside the split, as in MVTec's layout, each folder of the split
    that has a namesake in there is a class of anomalous images.

    Args:
        split: The split's folder.
        normal_only: Only the folder of normal images, or the split itself if that has no images.

    Raises:
        UserError: A folder cannot be listed, or two could be meant.
    """
    truth = None if normal_only else _ground_truth(split)
    classes = []
    for folder in subfolders(split):
        name = folder.name.casefold()
        if name in NORMAL_NAMES:
            classes.append(_class_folder(folder, NORMAL, truth))
        elif not normal_only and (name in ANOMALOUS_NAMES or _inner_folder(truth, name)):
            classes.append(_class_folder(folder, ANOMALOUS, truth))
    normal = [shown(Path(each.folder.name)) for each in classes if each.label == NORMAL]
    if len(normal) > 1:
        raise UserError(
            f"{shown(split)}: {normal[0]} or {normal[1]} could be the folder of normal images; "
            "keep one of them"
        )
    if normal_only and not any(_holds_images(each.images) for each in classes):
        return [_class_folder(split, NORMAL, None)]
    return classes


def _holds_images(folder: Path) -> bool:
    return bool(list_images(folder, KINDS, tell=False) or files_below(folder))


def files_below(folder: Path) -> list[Path]:
    """DICOM files in folders below one, which may be series; not those of masks and classes."""
    others = {"img", *MASK_FOLDERS, *NORMAL_NAMES, *ANOMALOUS_NAMES}
    return [
        file
        for top in subfolders(folder)
        if top.name.casefold() not in others
        for each in walk_folders(top)
        for file in list_images(each, _DICOM, tell=False)
    ]


def _ground_truth(split: Path) -> Path | None:
    found = _inner_folder(split, GROUND_TRUTH)
    # The parent folder may be unreadable and unrelated to the data set.
    with suppress(UserError):
        found = found or _inner_folder(split.parent, GROUND_TRUTH)
    return found


def _inner_folder(folder: Path | None, name: str) -> Path | None:
    """The folder with a name, in upper or lower case, in another one."""
    inner = subfolders(folder) if folder else []
    return next((each for each in inner if each.name.casefold() == name.casefold()), None)


def _class_folder(folder: Path, label: int, truth: Path | None) -> ClassFolder:
    inner = {each.name.casefold(): each for each in subfolders(folder)}
    masks = [inner[name] for name in MASK_FOLDERS if name in inner]
    if len(masks) > 1 and masks[0].name.casefold() not in _BMAD_MASKS:
        raise UserError(
            f"{shown(folder)}: {shown(Path(masks[0].name))} or {shown(Path(masks[1].name))} could "
            "be the folder of masks; keep one of them, or rename it to label"
        )
    return ClassFolder(
        folder,
        label,
        images=inner.get("img", folder),
        masks=masks[0] if masks else _inner_folder(truth, folder.name),
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return [folder / name for name, is_folder in _listed(folder) if is_folder]


def list_images(
    folder: Path, kinds: Collection[Kind] = PICTURES, *, tell: bool = True
) -> list[Path]:
    """The image files directly in a folder, sorted, without hidden ones."""
    images: list[Path] = []
    others: list[Path] = []
    for path in _files(folder):
        (images if kind_of(path) in kinds else others).append(path)
    if others and tell:
        logger.warning("%s", _line(folder, others, _NO_IMAGES))
    return images


def _files(folder: Path) -> list[Path]:
    return [folder / name for name, is_folder in _listed(folder) if not is_folder]


def _listed(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder and whether they are folders, sorted: names compare faster than paths."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, _is_folder(entry)) for entry in entries if not _is_pipe(entry)]
    except OSError as error:
        raise UserError(
            f"{shown(folder)}: cannot be listed ({error.strerror}); fix its permissions"
        ) from error
    return sorted(
        (name, is_folder)
        for name, is_folder in found
        if not name.startswith(".") and name.casefold() not in _JUNK
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # Keep circular links, like dangling ones: reading them reports the error.
        return False


def _is_pipe(entry: os.DirEntry[str]) -> bool:
    """Whether it is neither file, folder nor link: reading it might wait for ever."""
    kinds = entry.is_file(follow_symlinks=False), entry.is_dir(follow_symlinks=False)
    return not any(kinds) and not entry.is_symlink()


def walk_folders(top: Path) -> Iterator[Path]:
    """A folder and all below it, hidden ones left out; links are followed once."""
    entered, ahead = set[str](), [top]
    while ahead:
        folder = ahead.pop()
        if (place := os.path.realpath(folder)) not in entered:
            entered.add(place)
            yield folder
            ahead += reversed(subfolders(folder))


def unread_files(split: Path, classes: Iterable[ClassFolder], files: Collection[Path]) -> list[str]:
    """Files of a split that nothing reads: one line per folder and sort, with an example."""
    read, anchors = set[Path](), {split}
    for each in classes:
        used = {each.images, each.masks or each.images}
        read |= used
        anchors |= used | {each.folder}
    outside = {path.parent for path in read if not path.is_relative_to(split)}
    found: dict[tuple[Path, tuple[str, str, str]], list[Path]] = defaultdict(list)
    for root in (split, *sorted(outside)):
        for folder in walk_folders(root):
            anchor = next((up for up in (folder, *folder.parents) if up in anchors), root)
            for path in _files(folder):
                if kind_of(path) is None:
                    found[anchor, _NO_IMAGES].append(path)
                elif folder not in read and path not in files:
                    found[anchor, _UNREAD].append(path)
    return [_line(anchor, paths, sort) for (anchor, sort), paths in found.items()]


def _line(folder: Path, paths: Sequence[Path], sort: tuple[str, str, str]) -> str:
    one, several, remedy = sort
    what = one if len(paths) == 1 else several
    example = shown(paths[0].relative_to(folder))
    return f"{shown(folder)}: {len(paths)} {what}, such as {example}; {remedy}"
