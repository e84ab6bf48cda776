"""Samples and splits: which image of which file, its label and its mask."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import SliceAxis
from datasets.readers.formats import kind_of, shown, stem_of
from datasets.readers.image import count_frames, read_image, read_mask
from utils.errors import UserError
from utils.intensity import IntensityWindow

NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True)
class Sample:
    """One image: a file, or one frame of a file.

    Attributes:
        path: The image's file.
        label: 0 normal, 1 anomalous, None unknown.
        mask: The mask's file; None where the image is normal or the set has no masks.
        frame: Which image of a volume or multi-frame file, from 0; None for a file of one image.
        axis: How a volume is cut into frames.
        volume: Which volume of a NIfTI file of four dimensions, from 0.
    """

    path: Path
    label: int | None
    mask: Path | None = None
    frame: int | None = None
    axis: SliceAxis = "axial"
    volume: int = 0

    @property
    def name(self) -> str:
        """``path``, or ``path#frame``."""
        return str(self.path) if self.frame is None else f"{self.path}#{self.frame}"

    @property
    def volume_name(self) -> Path | None:
        """The volume that the image is a slice of; None for a picture."""
        is_slice = self.frame is not None and kind_of(self.path) == "nifti"
        return self.path if is_slice else None

    @property
    def stem(self) -> str:
        """The file name without its suffix, ``.nii.gz`` as a whole."""
        return stem_of(self.path)

    def read(self, window: IntensityWindow) -> NDArray[np.uint8]:
        """The image, see :func:`datasets.readers.image.read_image`."""
        return read_image(self.path, window, self.frame, axis=self.axis, volume=self.volume)

    def read_mask(self) -> NDArray[np.bool_]:
        """The mask of a sample that has one, see :func:`datasets.readers.image.read_mask`."""
        assert self.mask is not None
        return read_mask(self.mask, self.frame, axis=self.axis, image=self.path)


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        folder: Where they lie.
        samples: Sorted by path, then by frame.
        has_masks: Whether the anomalous images have masks; normal ones then have empty masks.
        num_left_out: Images that a MAX_SAMPLES key cut off.
        unread: What the folder holds beside the samples, one line for each place.
        problems: What is wrong with masks, one line each.
        normal_masks: Image → mask of normal images, which only a check of the data set reads.
    """

    folder: Path
    samples: tuple[Sample, ...]
    has_masks: bool
    num_left_out: int = 0
    unread: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    normal_masks: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def labels(self) -> list[int]:
        """One label per sample: the images of a split have one each."""
        labels = [sample.label for sample in self.samples if sample.label is not None]
        assert len(labels) == len(self.samples)
        return labels

    @property
    def summary(self) -> str:
        """Count of the samples and a digest of their names below the folder, and of labels."""
        names = "\n".join(
            f"{os.path.relpath(sample.name, self.folder)} {sample.label}" for sample in self.samples
        )
        digest = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return f"{len(self.samples)} images, names {digest}"

    def cut(self, max_samples: int, seed: int) -> Split:
        """At most ``max_samples`` samples, drawn by a seeded shuffle where there are more."""
        if len(self.samples) <= max_samples:
            return self
        shuffled = list(self.samples)
        random.Random(seed).shuffle(shuffled)
        left_out = len(shuffled) - max_samples
        return replace(self, samples=tuple(shuffled[:max_samples]), num_left_out=left_out)


def expand_frames(sample: Sample) -> list[Sample]:
    """One sample for each frame of a file.

    A file whose header cannot be read stays one sample: reading it says what is wrong, when and
    where that can be borne.
    """
    try:
        count = count_frames(sample.path, axis=sample.axis)
    except UserError:
        return [sample]
    return [replace(sample, frame=frame) for frame in range(count)] if count > 1 else [sample]


def mask_of_another_size(sample: Sample, image: Sequence[int], mask: Sequence[int]) -> str:
    """What is wrong where a mask has another (height, width) than its image, in one line."""
    assert sample.mask is not None
    return (
        f"{shown(sample.mask)}: is {mask[1]} × {mask[0]} pixels, its image {shown(sample.path)} "
        f"is {image[1]} × {image[0]}; redraw the mask at the image's size"
    )


def mask_without_mark(sample: Sample) -> str:
    """What to say where the mask of an anomalous image is empty, in one line."""
    assert sample.mask is not None
    return (
        f"{shown(sample.mask)}: marks nothing, though {shown(sample.path)} is filed as anomalous; "
        "move the image to good/, or draw the mask"
    )
