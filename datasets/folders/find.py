"""BMAD's folders and their variants in the wild: folders to lists of samples."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from datasets.folders.layouts import (
    ClassFolder,
    class_folders,
    flat_folder,
    list_images,
    normal_folders,
    tell_once,
    unread_files,
)
from datasets.folders.samples import (
    ANOMALOUS,
    NORMAL,
    Sample,
    Split,
    expand_frames,
    mask_without_mark,
    missing_mask,
)
from datasets.readers.base import SliceAxis
from datasets.readers.formats import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    KINDS,
    NIFTI_SUFFIXES,
    may_have_frames,
    shown,
    stem_of,
)
from datasets.readers.image import marked_frames, require_packages
from utils.errors import UserError

logger = logging.getLogger(__name__)

VALIDATION_NAMES = ("valid", "val", "Val", "Valid")

_SUFFIXES = ", ".join((*IMAGE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES))


def find_split(folder: Path, *, key: str, axis: SliceAxis = "axial") -> Split:
    """The images and masks of a split's folder, e.g. ``data/Brain/test``.

    Images lie in ``good`` and ``Ungood`` (or folders of like names, see
    :mod:`datasets.folders.layouts`), in ``img/`` or flat; masks in ``label/``, matched by file
    stem, or as in MVTec's layout. A validation folder may be spelled ``valid``, ``val``, ``Val``
    or ``Valid``. Volumes and other files of several images become one sample per frame; in
    ``Ungood``, where there are masks, a frame without a mark is normal. A warning tells what is
    not read.

    Args:
        folder: The split's folder.
        key: The INI key that named it, for messages.
        axis: How volumes are cut.

    Raises:
        UserError: The folder is missing or empty, a mask is missing or belongs to no image, or to
            several.
    """
    return _accepted(*inspect_split(folder, key=key, axis=axis))


def inspect_split(folder: Path, *, key: str, axis: SliceAxis = "axial") -> tuple[Split, list[str]]:
    """As :func:`find_split`, with what is wrong about masks as a list, one line each.

    Raises:
        UserError: The folder is missing or empty.
    """
    folder = existing_folder(folder, key)
    return _inspect(folder, class_folders(folder), key, axis)


def find_normal_images(folder: Path, *, key: str, axis: SliceAxis = "axial") -> Split:
    """The normal images of a training folder: ``good/img``, ``good``, or the folder itself.

    Raises:
        UserError: The folder is missing or holds no image, or a mask belongs to none.
    """
    return _accepted(*inspect_normal_images(folder, key=key, axis=axis))


def inspect_normal_images(
    folder: Path, *, key: str, axis: SliceAxis = "axial"
) -> tuple[Split, list[str]]:
    """As :func:`find_normal_images`, with what is wrong about masks as a list, one line each.

    Raises:
        UserError: The folder is missing or holds no image.
    """
    folder = existing_folder(folder, key)
    classes = normal_folders(folder)
    if not any(list_images(each.images, KINDS, tell=False) for each in classes):
        classes = [flat_folder(folder)]
    return _inspect(folder, classes, key, axis)


def _accepted(split: Split, problems: list[str]) -> Split:
    if problems:
        raise UserError("\n".join(problems))
    for line in split.unread:
        tell_once(line)
    return split


def _inspect(
    folder: Path, classes: Iterable[ClassFolder], key: str, axis: SliceAxis
) -> tuple[Split, list[str]]:
    problems: list[str] = []
    twins: list[str] = []
    found = [(each, _class_samples(each, axis, problems, twins)) for each in classes]
    samples = sorted((each for _, some in found for each in some), key=lambda each: each.path)
    unread = unread_files(folder, [each for each, some in found if some])
    if not samples:
        raise _no_images(folder, key, unread)
    require_packages(sample.path for sample in samples)
    has_masks = any(sample.mask for sample in samples)
    if has_masks:
        problems += [
            missing_mask(each) for each in samples if each.label == ANOMALOUS and not each.mask
        ]
    frames = tuple(_expanded(samples, problems))
    return Split(folder, frames, has_masks, unread=(*unread, *twins)), problems


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


def paired_masks(
    folder: ClassFolder, images: Iterable[Path], problems: list[str]
) -> dict[Path, Path]:
    """Image → mask file of a class folder; what does not fit is appended to ``problems``."""
    files = list_images(folder.masks, KINDS, tell=False) if folder.masks else []
    pictures = _by_stem(images)
    masks = defaultdict[str, list[Path]](list)
    for path in files:
        stem = stem_of(path)
        # MVTec's masks are called 000_mask.png.
        masks[stem if stem in pictures else stem.removesuffix("_mask")].append(path)
    for stem, files in masks.items():
        owners = pictures.get(stem, [])
        if not owners:
            problems.append(
                f"{shown(files[0])}: this mask has no image; add one named {shown(Path(stem))}.* "
                f"to {shown(folder.images)}, or remove the mask"
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
    return {image: masks[stem][0] for stem in masks for image in pictures.get(stem, [])}


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stems[stem_of(path)].append(path)
    return stems


def _class_samples(
    folder: ClassFolder, axis: SliceAxis, problems: list[str], twins: list[str]
) -> list[Sample]:
    images = list_images(folder.images, KINDS, tell=False)
    masks = paired_masks(folder, images, problems) if images else {}
    alike = [
        files for files in _by_stem(images).values() if len(files) > 1 and files[0] not in masks
    ]
    if alike:
        twins.append(
            f"{shown(folder.images)}: {len(alike)} stems have several images, such as "
            f"{shown(Path(alike[0][0].name))} and {shown(Path(alike[0][1].name))}; rename or "
            "remove one of each"
        )
    if folder.label == NORMAL:
        # Masks of normal images are empty by definition: the files are not read.
        masks = {}
    return [Sample(path, folder.label, masks.get(path), axis=axis) for path in images]


def _no_images(folder: Path, key: str, unread: Sequence[str]) -> UserError:
    beside = f"; {unread[0]}" if unread else ""
    return UserError(
        f"{key}: {shown(folder)} holds no images; expected {shown(folder / 'good')} with "
        f"{_SUFFIXES} files, in img/ or flat{beside}"
    )


def _expanded(samples: Iterable[Sample], problems: list[str]) -> list[Sample]:
    several = [sample for sample in samples if may_have_frames(sample.path)]
    if not several:
        return list(samples)
    with tqdm(samples, "reading headers", unit="file", leave=False, delay=2, disable=None) as bar:
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
