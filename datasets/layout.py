"""BMAD's folders and their variants in the wild: folders to lists of samples."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from utils.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MASK_FOLDERS = ("label", "anomaly_mask")
VALIDATION_NAMES = ("valid", "val", "Val", "Valid")
ANOMALOUS_NAMES = ("Ungood", "ungood")
NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True)
class Sample:
    """One image of a split.

    Attributes:
        path: The image's file.
        label: 0 normal, 1 anomalous.
        mask: The mask's file; None where the image is normal or the set has no masks.
    """

    path: Path
    label: int
    mask: Path | None = None


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        folder: Where they lie.
        samples: Sorted by path.
        has_masks: Whether the anomalous images have masks; normal ones then have empty masks.
        num_left_out: Images that a MAX_SAMPLES key cut off.
    """

    folder: Path
    samples: tuple[Sample, ...]
    has_masks: bool
    num_left_out: int = 0

    @property
    def labels(self) -> list[int]:
        """One label a sample."""
        return [sample.label for sample in self.samples]

    def cut(self, max_samples: int, seed: int) -> Split:
        """At most ``max_samples`` samples, drawn by a seeded shuffle where there are more."""
        if len(self.samples) <= max_samples:
            return self
        shuffled = list(self.samples)
        random.Random(seed).shuffle(shuffled)
        left_out = len(shuffled) - max_samples
        return replace(self, samples=tuple(shuffled[:max_samples]), num_left_out=left_out)


def find_split(folder: Path, *, key: str) -> Split:
    """The images and masks of a split's folder, e.g. ``data/Brain/test``.

    Images lie in ``good`` and ``Ungood`` (or ``ungood``), in ``img/`` or flat; masks in ``label/``
    or ``anomaly_mask/``, matched by file stem. A validation folder may be spelled ``valid``,
    ``val``, ``Val`` or ``Valid``.

    Args:
        folder: The split's folder.
        key: The INI key that named it, for messages.

    Raises:
        UserError: The folder is missing or empty, a mask is missing or has no image.
    """
    folder = _existing(folder, key)
    normal = _class_samples(folder / "good", NORMAL)
    anomalous = [
        sample
        for name in ANOMALOUS_NAMES
        for sample in _class_samples(folder / name, ANOMALOUS)
        # On a file system that ignores case both names are one folder.
        if name == ANOMALOUS_NAMES[0] or not (folder / ANOMALOUS_NAMES[0]).exists()
    ]
    samples = sorted([*normal, *anomalous], key=lambda sample: sample.path)
    if not samples:
        raise UserError(
            f"{key}: {folder} holds no images; expected {folder / 'good'} with "
            f"{', '.join(IMAGE_SUFFIXES)} files, in img/ or flat"
        )
    has_masks = any(sample.mask for sample in anomalous)
    for sample in anomalous if has_masks else ():
        if sample.mask is None:
            raise UserError(
                f"{sample.path}: has no mask, while other images of {folder} have one; add "
                f"{sample.path.stem}.png to its label/ folder, or remove all masks"
            )
    return Split(folder, tuple(samples), has_masks)


def find_normal_images(folder: Path, *, key: str) -> Split:
    """The normal images of a training folder: ``good/img``, ``good``, or the folder itself.

    Raises:
        UserError: The folder is missing or holds no image.
    """
    folder = _existing(folder, key)
    samples = _class_samples(folder / "good", NORMAL) or _class_samples(folder, NORMAL)
    if not samples:
        raise UserError(
            f"{key}: {folder} holds no images; expected {folder / 'good'} with "
            f"{', '.join(IMAGE_SUFFIXES)} files, in img/ or flat"
        )
    return Split(folder, tuple(samples), has_masks=False)


def _existing(folder: Path, key: str) -> Path:
    candidates = [folder]
    if folder.name in VALIDATION_NAMES:
        candidates += [folder.with_name(name) for name in VALIDATION_NAMES]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise UserError(f"{key}: {folder} is no folder; give the path of a split, e.g. data/Brain/test")


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted; hidden files are left out.

    Raises:
        UserError: The folder cannot be listed.
    """
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be listed ({error.strerror}); mend its rights"
        ) from error


def image_folder(class_folder: Path) -> Path:
    """Where the images of a class folder lie: in ``img/``, or flat."""
    return class_folder / "img" if (class_folder / "img").is_dir() else class_folder


def mask_folder(class_folder: Path) -> Path | None:
    """Where the masks of a class folder lie, None where it has none."""
    for name in MASK_FOLDERS:
        if (class_folder / name).is_dir():
            return class_folder / name
    return None


def _class_samples(class_folder: Path, label: int) -> list[Sample]:
    if not class_folder.is_dir():
        return []
    images = list_images(image_folder(class_folder))
    masks = _masks_by_stem(class_folder, images) if images else {}
    if label == NORMAL:
        # Masks of normal images are empty by definition: the files are not read.
        return [Sample(path, label) for path in images]
    return [Sample(path, label, masks.get(path.stem)) for path in images]


def _masks_by_stem(class_folder: Path, images: Iterable[Path]) -> dict[str, Path]:
    folder = mask_folder(class_folder)
    masks = {path.stem: path for path in list_images(folder)} if folder else {}
    stems = {path.stem for path in images}
    for stem, path in masks.items():
        if stem not in stems:
            raise UserError(
                f"{path}: this mask has no image; add one named {stem}.* to "
                f"{image_folder(class_folder)}, or remove the mask"
            )
    return masks
