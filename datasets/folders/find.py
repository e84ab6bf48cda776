"""BMAD's folders and their variants in the wild: folders to lists of samples."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from datasets.folders.layouts import (
    ClassFolder,
    class_folders,
    list_images,
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
)
from datasets.folders.volumes import AXIAL, Slicing, choose_volume
from datasets.readers.formats import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    KINDS,
    NIFTI_SUFFIXES,
    shown,
    stem_of,
)
from datasets.readers.image import marked_frames, require_packages
from utils.errors import UserError

logger = logging.getLogger(__name__)

VALIDATION_NAMES = ("valid", "val", "Val", "Valid")

_SUFFIXES = ", ".join((*IMAGE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES))


def find_split(folder: Path, *, key: str, slicing: Slicing = AXIAL) -> Split:
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
        slicing: How volumes become images.

    Raises:
        UserError: The folder is missing or empty, a mask is missing or belongs to no image, or to
            several.
    """
    return _accepted(inspect_split(folder, key=key, slicing=slicing))


def find_normal_images(folder: Path, *, key: str, slicing: Slicing = AXIAL) -> Split:
    """The normal images of a training folder: ``good/img``, ``good``, or the folder itself.

    Raises:
        UserError: The folder is missing or holds no image, or a mask belongs to none.
    """
    return _accepted(inspect_split(folder, key=key, slicing=slicing, normal_only=True))


def _accepted(split: Split) -> Split:
    if split.problems:
        raise UserError("\n".join(split.problems))
    for line in split.unread:
        tell_once(line)
    return split


def inspect_split(
    folder: Path, *, key: str, slicing: Slicing = AXIAL, normal_only: bool = False
) -> Split:
    """As :func:`find_split` or :func:`find_normal_images`; what is wrong about masks is no error.

    Raises:
        UserError: The folder is missing or empty.
    """
    folder = existing_folder(folder, key)
    samples: list[Sample] = []
    problems: list[str] = []
    twins: list[str] = []
    normal_masks: dict[Path, Path] = {}
    read = []
    for each in class_folders(folder, normal_only=normal_only):
        images = list_images(each.images, KINDS, tell=False)
        if not images:
            continue
        read.append(each)
        masks = paired_masks(each, images, problems)
        twins += _twins(each, images, masks)
        if each.label == NORMAL:
            # Masks of normal images are empty by definition: the files are not read.
            normal_masks, masks = masks, {}
        samples += [Sample(path, each.label, masks.get(path), axis=slicing.axis) for path in images]
    samples.sort(key=lambda sample: sample.path)
    unread = unread_files(folder, read)
    if not samples:
        beside = f"; {unread[0]}" if unread else ""
        raise UserError(
            f"{key}: {shown(folder)} holds no images; expected {shown(folder / 'good')} with "
            f"{_SUFFIXES} files, in img/ or flat{beside}"
        )
    require_packages(sample.path for sample in samples)
    has_masks = any(sample.mask for sample in samples)
    for sample in samples:
        if has_masks and sample.label == ANOMALOUS and not sample.mask:
            problems.append(_missing_mask(sample))
    with tqdm(samples, "reading headers", unit="file", leave=False, delay=2, disable=None) as bar:
        frames = [frame for each in bar for frame in _frames(each, problems)]
    return Split(
        folder,
        choose_volume(frames, slicing.volume),
        has_masks,
        unread=(*unread, *twins),
        problems=tuple(problems),
        normal_masks=normal_masks,
    )


def existing_folder(folder: Path, key: str) -> Path:
    """A split's folder, under another spelling where it is one of validation.

    Raises:
        UserError: There is none.
    """
    others = VALIDATION_NAMES if folder.name in VALIDATION_NAMES else ()
    for candidate in (folder, *map(folder.with_name, others)):
        if candidate.is_dir():
            return candidate
    raise UserError(
        f"{key}: {shown(folder)} is no folder; give the path of a split, e.g. data/Brain/test"
    )


def paired_masks(
    folder: ClassFolder, images: Sequence[Path], problems: list[str]
) -> dict[Path, Path]:
    """Image → mask file of a class folder; what does not fit is appended to ``problems``."""
    files = list_images(folder.masks, KINDS, tell=False) if folder.masks else []
    owners = _by_stem(images)
    masks = defaultdict[str, list[Path]](list)
    for path in files:
        stem = stem_of(path)
        # MVTec's masks are called 000_mask.png.
        masks[stem if stem in owners else stem.removesuffix("_mask")].append(path)
    for stem, (first, *others) in masks.items():
        images_of = owners.get(stem, [])
        if not images_of:
            fault = (
                f"this mask has no image; add one named {shown(Path(stem))}.* to "
                f"{shown(folder.images)}, or remove the mask"
            )
        elif others:
            fault = f"{shown(others[0])} is a mask of the same image; remove one"
        elif len(images_of) > 1:
            fault = (
                f"may belong to {shown(images_of[0])} or to {shown(images_of[1])}; "
                "give these images different names"
            )
        else:
            continue
        problems.append(f"{shown(first)}: {fault}")
    return {image: masks[stem][0] for stem in masks for image in owners.get(stem, [])}


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stems[stem_of(path)].append(path)
    return stems


def _twins(
    folder: ClassFolder, images: Sequence[Path], masks: Mapping[Path, Path]
) -> Iterator[str]:
    """What to say of images of one stem, in one line; where they have a mask, it is a problem."""
    twins = [
        files for files in _by_stem(images).values() if len(files) > 1 and files[0] not in masks
    ]
    if twins:
        first, second, *_ = (shown(Path(each.name)) for each in twins[0])
        yield (
            f"{shown(folder.images)}: {len(twins)} stems have several images, such as {first} and "
            f"{second}; rename or remove one of each"
        )


def _missing_mask(sample: Sample) -> str:
    return (
        f"{shown(sample.path)}: has no mask, while other images of {shown(sample.path.parent)} "
        f"have one; add {shown(Path(sample.stem))}.png to the label/ folder, or remove all masks"
    )


def _frames(sample: Sample, problems: list[str]) -> list[Sample]:
    """The frames of a file; with a mask, those that it does not mark are normal."""
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
