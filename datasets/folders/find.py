"""BMAD's folders and their variants in the wild: folders to lists of samples."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets.folders.layouts import ClassFolder, class_folders, unread_files
from datasets.folders.masks import by_stem, paired_masks
from datasets.folders.samples import (
    ANOMALOUS,
    NORMAL,
    Sample,
    Split,
    expand_frames,
    mask_without_mark,
)
from datasets.folders.scan import progress
from datasets.folders.series_samples import files_of, sources_of
from datasets.folders.slicing import AXIAL, Slicing, choose_volume
from datasets.readers.formats import ALL_SUFFIXES, shown, stem_of
from datasets.readers.image import Source, marked_frames, name_of, require_packages
from utils.errors import UserError

logger = logging.getLogger(__name__)

VALIDATION_NAMES = ("valid", "val", "Val", "Valid")
# The end of a mask's name if it lies beside its image.
_MASK_MARK = re.compile(r"_mask(_\d+)?$")
_SPLIT_OF = {"TRAIN_DATA_PATH": "train", "VAL_DATA_PATH": "valid"}


def find_split(folder: Path, *, key: str, slicing: Slicing = AXIAL) -> Split:
    """The images and masks of a split's folder, e.g. ``data/Brain/test``.

    Images lie in ``good`` and ``Ungood`` (or folders of similar names, see
    :mod:`datasets.folders.layouts`), in ``img/`` or flat; masks in ``label/``, matched by file
    stem, or as in MVTec's layout. A validation folder may be spelled ``valid``, ``val``, ``Val``
    or ``Valid``. Volumes and other files of several images become one sample per frame; in
    ``Ungood``, if there are masks, a frame with an empty mask is normal. Warnings name files that
    are not read.

    Raises:
        UserError: The folder is missing or empty, a mask is missing, or a mask belongs to no image
            or to several.
    """
    return _accepted(inspect_split(folder, key=key, slicing=slicing))


def find_normal_images(folder: Path, *, key: str, slicing: Slicing = AXIAL) -> Split:
    """The normal images of a training folder: ``good/img``, ``good``, or the folder itself."""
    return _accepted(inspect_split(folder, key=key, slicing=slicing, normal_only=True))


def _accepted(split: Split) -> Split:
    if split.problems:
        raise UserError("\n".join(split.problems))
    for line in split.unread:
        logger.warning("%s", line)
    return split


def inspect_split(
    folder: Path, *, key: str, slicing: Slicing = AXIAL, normal_only: bool = False
) -> Split:
    """As :func:`find_split` or :func:`find_normal_images`, but keeps problems of masks.

    Raises:
        UserError: The folder is missing or empty.
    """
    folder = existing_folder(folder, key)
    samples: list[Sample] = []
    problems: list[str] = []
    twins: list[str] = []
    # By label: masks of normal images are empty by definition, and their files are not read.
    masks: dict[int, dict[Path, Source]] = {NORMAL: {}, ANOMALOUS: {}}
    read, files = [], set[Path]()
    for each in class_folders(folder, normal_only=normal_only):
        images = sources_of(each.images)
        if not images:
            continue
        read.append(each)
        paired = paired_masks(each, images, problems)
        masks[each.label] |= paired
        files |= {file for source in (*images, *paired.values()) for file in files_of(source)}
        stems = by_stem(images)
        twins += _twins(each, stems, paired)
        problems += _masks_among(stems)
        samples += [
            Sample.of(source, each.label, masks[ANOMALOUS].get(name_of(source)), axis=slicing.axis)
            for source in images
        ]
    unread = unread_files(folder, read, files)
    if not samples:
        raise UserError(_no_images(folder, key, unread))
    require_packages(sample.path for sample in samples if sample.series is None)
    frames = _expanded(samples, masks[ANOMALOUS], problems)
    return Split(
        folder,
        choose_volume(frames, slicing.volume),
        has_masks=bool(masks[ANOMALOUS]),
        unread=(*unread, *twins),
        problems=tuple(problems),
        normal_masks=masks[NORMAL],
    )


def _no_images(folder: Path, key: str, unread: Sequence[str]) -> str:
    beside = f"; {unread[0]}" if unread else ""
    good = folder / "good"
    return (
        f"{key}: {shown(folder)} contains no images; expected {', '.join(ALL_SUFFIXES)} files in "
        f"{shown(good)} or {shown(good / 'img')}{beside}"
    )


def _expanded(
    samples: Iterable[Sample], masks: Mapping[Path, Source], problems: list[str]
) -> list[Sample]:
    """The frames of all samples, sorted by file; reports anomalous ones that lack a mask."""
    ordered = sorted(samples, key=lambda sample: sample.path.parts)
    with progress(ordered, "reading headers", "file") as bar:
        frames = [frame for each in bar for frame in _frames(each, masks, problems)]
    if masks:
        without = (each for each in frames if each.label == ANOMALOUS and not each.mask)
        problems += dict.fromkeys(_missing_mask(each, masks) for each in without)
    return frames


def existing_folder(folder: Path, key: str) -> Path:
    """A split's folder; that of validation may be spelled differently.

    Raises:
        UserError: There is none.
    """
    others = VALIDATION_NAMES if folder.name in VALIDATION_NAMES else ()
    for candidate in (folder, *map(folder.with_name, others)):
        if candidate.is_dir():
            return candidate
    raise UserError(
        f"{key}: {shown(folder)} is not a folder; use the path of a split, such as "
        f"data/Brain/{_SPLIT_OF.get(key, 'test')}"
    )


def _twins(
    folder: ClassFolder, stems: Mapping[str, Sequence[Source]], masks: Mapping[Path, Source]
) -> Iterator[str]:
    """One line about images with the same stem; if they have a mask, that is a problem instead."""
    twins = [
        names
        for each in stems.values()
        if len(names := [name_of(source) for source in each]) > 1 and names[0] not in masks
    ]
    if twins:
        first, second, *_ = (shown(Path(each.name)) for each in twins[0])
        more = f" (and {len(twins) - 1} more such pairs)" if len(twins) > 1 else ""
        yield (
            f"{shown(folder.images)}: {first} and {second} differ only in their extension{more}; "
            "rename or remove one of each"
        )


def _masks_among(stems: Mapping[str, Sequence[Source]]) -> Iterator[str]:
    """One line about masks beside their images, such as x_mask.png beside x.png."""
    found = [(each, stem) for stem in stems if (each := _MASK_MARK.sub("", stem)) != stem]
    masks = [stems[stem][0] for image, stem in found if image in stems]
    if masks:
        more = f" (and {len(masks) - 1} more)" if len(masks) > 1 else ""
        yield (
            f"{shown(name_of(masks[0]))}: looks like the mask of an image beside it{more}; move "
            "masks to a label/ folder next to img/, or remove them"
        )


def _missing_mask(sample: Sample, masks: Mapping[Path, Source]) -> str:
    path, name = sample.path, f"{stem_of(sample.path)}.png"
    series = sample.series
    if series is not None and (path == series.name or not files_of(series) & masks.keys()):
        path, name = series.name, f"{stem_of(series.name)}.nii.gz (for the whole volume)"
    return (
        f"{shown(path)}: has no mask although other images in {shown(path.parent)} do; add "
        f"{shown(Path(name))} to the label/ folder, or remove all masks"
    )


def _frames(sample: Sample, masks: Mapping[Path, Source], problems: list[str]) -> list[Sample]:
    """The frames of a file or series; those that a mask of all leaves empty are normal.

    Slices of a series that have their own masks are anomalous, like other files.
    """
    frames = expand_frames(sample)
    if not masks:
        return frames
    if sample.mask is None:
        return [replace(each, mask=masks.get(each.path)) for each in frames]
    if len(frames) == 1:
        return frames
    try:
        marked = marked_frames(sample.mask, axis=sample.axis, image=sample.source)
    except UserError as error:
        problems.append(str(error))
        return []
    if len(marked) != len(frames):
        problems.append(
            f"{shown(name_of(sample.mask))}: has {len(marked)} slices but {shown(sample.path)} "
            f"has {len(frames)}; redraw the mask on its image's grid"
        )
        return []
    if not any(marked):
        logger.warning("%s", mask_without_mark(sample))
    return [
        frame if mark else replace(frame, label=NORMAL, mask=None)
        for frame, mark in zip(frames, marked, strict=True)
    ]
