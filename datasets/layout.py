"""BMAD's folders and their variants in the wild: folders to lists of samples."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tqdm import tqdm

from datasets.formats import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    KINDS,
    NIFTI_SUFFIXES,
    Kind,
    kind_of,
    may_have_frames,
    shown,
    stem_of,
)
from datasets.images import marked_frames, require_packages
from datasets.raw import SliceAxis
from datasets.samples import (
    ANOMALOUS,
    NORMAL,
    Sample,
    Split,
    expand_frames,
    mask_without_mark,
    missing_mask,
)
from utils.errors import UserError

logger = logging.getLogger(__name__)

MASK_FOLDERS = ("label", "anomaly_mask")
VALIDATION_NAMES = ("valid", "val", "Val", "Valid")
ANOMALOUS_NAMES = ("Ungood", "ungood")

PICTURES: tuple[Kind, ...] = ("picture",)
_SUFFIXES = ", ".join((*IMAGE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES))


def find_split(folder: Path, *, key: str, axis: SliceAxis = "axial") -> Split:
    """The images and masks of a split's folder, e.g. ``data/Brain/test``.

    Images lie in ``good`` and ``Ungood`` (or ``ungood``), in ``img/`` or flat; masks in ``label/``
    or ``anomaly_mask/``, matched by file stem. A validation folder may be spelled ``valid``,
    ``val``, ``Val`` or ``Valid``. Volumes and other files of several images become one sample a
    frame; in ``Ungood``, where there are masks, a frame without a mark is normal.

    Args:
        folder: The split's folder.
        key: The INI key that named it, for messages.
        axis: How volumes are cut.

    Raises:
        UserError: The folder is missing or empty, a mask is missing or belongs to no image, or to
            several.
    """
    split, problems = inspect_split(folder, key=key, axis=axis)
    if problems:
        raise UserError("\n".join(problems))
    return split


def inspect_split(folder: Path, *, key: str, axis: SliceAxis = "axial") -> tuple[Split, list[str]]:
    """As :func:`find_split`, with what is wrong about masks as a list, one line each.

    Raises:
        UserError: The folder is missing or empty.
    """
    folder = existing_folder(folder, key)
    problems: list[str] = []
    normal = _class_samples(folder / "good", NORMAL, axis, problems)
    anomalous = [
        sample
        for class_folder in anomalous_folders(folder)
        for sample in _class_samples(class_folder, ANOMALOUS, axis, problems)
    ]
    samples = sorted([*normal, *anomalous], key=lambda sample: sample.path)
    if not samples:
        raise _no_images(folder, key)
    require_packages(sample.path for sample in samples)
    has_masks = any(sample.mask for sample in anomalous)
    problems += [missing_mask(sample) for sample in anomalous if has_masks and not sample.mask]
    return Split(folder, tuple(_expanded(samples, problems)), has_masks), problems


def find_normal_images(folder: Path, *, key: str, axis: SliceAxis = "axial") -> Split:
    """The normal images of a training folder: ``good/img``, ``good``, or the folder itself.

    Raises:
        UserError: The folder is missing or holds no image, or a mask belongs to none.
    """
    folder = existing_folder(folder, key)
    problems: list[str] = []
    samples = _class_samples(folder / "good", NORMAL, axis, problems)
    samples = samples or _class_samples(folder, NORMAL, axis, problems)
    if not samples:
        raise _no_images(folder, key)
    if problems:
        raise UserError("\n".join(problems))
    require_packages(sample.path for sample in samples)
    return Split(folder, tuple(_expanded(samples, problems)), has_masks=False)


def existing_folder(folder: Path, key: str) -> Path:
    """A split's folder, under another spelling where it is one of validation.

    Raises:
        UserError: There is none.
    """
    candidates = [folder]
    if folder.name in VALIDATION_NAMES:
        candidates += [folder.with_name(name) for name in VALIDATION_NAMES]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise UserError(
        f"{key}: {shown(folder)} is no folder; give the path of a split, e.g. data/Brain/test"
    )


def anomalous_folders(folder: Path) -> list[Path]:
    """The folders of anomalous images in a split's folder, in any spelling."""
    found = [folder / name for name in ANOMALOUS_NAMES if (folder / name).is_dir()]
    # On a file system that ignores case both names are one folder.
    return found[:1] if len(found) == 2 and found[0].samefile(found[1]) else found


def list_images(folder: Path, kinds: Collection[Kind] = PICTURES) -> list[Path]:
    """The image files directly in a folder, sorted; hidden files are left out.

    Args:
        folder: The folder.
        kinds: Which formats to list; a warning tells of files of others.

    Raises:
        UserError: The folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not _passed_over(entry)]
    except OSError as error:
        raise UserError(
            f"{shown(folder)}: cannot be listed ({error.strerror}); mend its rights"
        ) from error
    files = sorted(folder / name for name in names)
    others = [path for path in files if kind_of(path) not in kinds]
    if others:
        _tell_of_others(folder, len(others), others[0].name)
    return [path for path in files if kind_of(path) in kinds]


@cache
def _tell_of_others(folder: Path, count: int, first: str) -> None:
    """Once in a process, however often the folder is listed."""
    logger.warning(
        "%s: %d left out, no images by name: %s …", shown(folder), count, shown(Path(first))
    )


def _passed_over(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.name.startswith(".") or entry.is_dir()
    except OSError:
        # A link in a circle stays, as one that leads nowhere does: reading it says so.
        return False


def image_folder(class_folder: Path) -> Path:
    """Where the images of a class folder lie: in ``img/``, or flat."""
    return class_folder / "img" if (class_folder / "img").is_dir() else class_folder


def mask_folder(class_folder: Path) -> Path | None:
    """Where the masks of a class folder lie, None where it has none."""
    for name in MASK_FOLDERS:
        if (class_folder / name).is_dir():
            return class_folder / name
    return None


def paired_masks(
    class_folder: Path, images: Iterable[Path], problems: list[str]
) -> dict[str, Path]:
    """Stem → mask file of a class folder; what does not fit is appended to ``problems``."""
    folder = mask_folder(class_folder)
    masks = _by_stem(list_images(folder, KINDS)) if folder else {}
    pictures = _by_stem(images) if masks else {}
    for stem, files in masks.items():
        owners = pictures.get(stem, [])
        if not owners:
            problems.append(
                f"{shown(files[0])}: this mask has no image; add one named {shown(Path(stem))}.* "
                f"to {shown(image_folder(class_folder))}, or remove the mask"
            )
        elif len(files) > 1:
            problems.append(
                f"{shown(files[0])}: {shown(files[1])} is a mask of the same image; remove one"
            )
        elif len(owners) > 1:
            problems.append(
                f"{shown(files[0])}: may belong to {shown(owners[0])} or to {shown(owners[1])}; "
                "give these images different names"
            )
    return {stem: files[0] for stem, files in masks.items()}


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stems[stem_of(path)].append(path)
    return stems


def _class_samples(
    class_folder: Path, label: int, axis: SliceAxis, problems: list[str]
) -> list[Sample]:
    if not class_folder.is_dir():
        return []
    images = list_images(image_folder(class_folder), KINDS)
    masks = paired_masks(class_folder, images, problems) if images else {}
    if label == NORMAL:
        # Masks of normal images are empty by definition: the files are not read.
        masks = {}
    return [Sample(path, label, masks.get(stem_of(path)), axis=axis) for path in images]


def _no_images(folder: Path, key: str) -> UserError:
    return UserError(
        f"{key}: {shown(folder)} holds no images; expected {shown(folder / 'good')} with "
        f"{_SUFFIXES} files, in img/ or flat"
    )


def _expanded(samples: Iterable[Sample], problems: list[str]) -> list[Sample]:
    several = [sample for sample in samples if may_have_frames(sample.path)]
    if not several:
        return list(samples)
    with tqdm(samples, "reading headers", unit="file", leave=False, delay=2) as bar:
        return [frame for sample in bar for frame in _frames(sample, problems)]


def _frames(sample: Sample, problems: list[str]) -> list[Sample]:
    frames = expand_frames(sample)
    if len(frames) == 1 or sample.mask is None:
        return frames
    try:
        marked = marked_frames(sample.mask, axis=sample.axis, image=sample.path)
    except UserError as error:
        problems.append(str(error))
        return []
    if len(marked) != len(frames):
        problems.append(
            f"{shown(sample.mask)}: holds {len(marked)} images, {shown(sample.path)} holds "
            f"{len(frames)}; redraw the mask on the grid of its image"
        )
        return []
    if not any(marked):
        logger.warning("%s", mask_without_mark(sample))
    return [
        frame if mark else replace(frame, label=NORMAL, mask=None)
        for frame, mark in zip(frames, marked, strict=True)
    ]
