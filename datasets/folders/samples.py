"""Samples and splits: which image of which file, its label and its mask."""

from __future__ import annotations

import hashlib
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import SliceAxis
from datasets.readers.formats import kind_of, shown, stem_of
from datasets.readers.image import Source, count_frames, name_of, read_image, read_mask
from datasets.volumes.series import Series
from datasets.volumes.series_file import SeriesFile
from utils.errors import UserError
from utils.intensity import IntensityWindow

NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True)
class Sample:
    """One image: a file, or one frame of a file."""

    path: Path  # the image's file
    label: int | None  # 0 normal, 1 anomalous, None unknown
    # The mask's file or DICOM series; None if the image is normal or the set has no masks.
    mask: Source | None = None
    # Which image of a volume or multi-frame file, from 0; None for a file of one image.
    frame: int | None = None
    axis: SliceAxis = "axial"  # how a volume is cut into frames
    volume: int = 0  # which volume of a NIfTI file of four dimensions, from 0
    # The DICOM series that it is a slice of. ``path`` is then the slice's own file, or the series'
    # name if the slice is cut from several files.
    series: Series | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        label: int | None = None,
        mask: Source | None = None,
        *,
        axis: SliceAxis,
    ) -> Sample:
        """All images of a file or of a DICOM series, to be expanded."""
        series = source if isinstance(source, Series) else None
        return cls(name_of(source), label, mask, axis=axis, series=series)

    @property
    def source(self) -> Source:
        """What is read: a file, or a DICOM series."""
        return self.series or self.path

    @property
    def volume_name(self) -> Path | None:
        """The volume that it is a slice of: a NIfTI file, or the name of a series."""
        if self.series is not None:
            return self.series.name
        return self.path if self.frame is not None and kind_of(self.path) == "nifti" else None

    @property
    def name(self) -> str:
        """``path``, or ``path#frame`` if that has several."""
        alone = self.frame is None or (self.series is not None and self.path != self.series.name)
        return str(self.path) if alone else f"{self.path}#{self.frame}"

    @property
    def stem(self) -> str:
        """The name of its file, or of the volume that it is a slice of, without suffix."""
        return stem_of(self.volume_name or self.path)

    def read(self, window: IntensityWindow) -> NDArray[np.uint8]:
        """The image, see :func:`datasets.readers.image.read_image`."""
        return read_image(self.source, window, self.frame, axis=self.axis, volume=self.volume)

    def read_mask(self) -> NDArray[np.bool_]:
        """The mask of a sample that has one, see :func:`datasets.readers.image.read_mask`."""
        assert self.mask is not None
        return read_mask(self.mask, self.frame, axis=self.axis, image=self.source)


@dataclass(frozen=True)
class Split:
    """The images of one split."""

    folder: Path  # where they lie
    samples: tuple[Sample, ...]  # sorted by path, then by frame
    has_masks: bool  # whether the anomalous images have masks; normal ones then have empty masks
    num_left_out: int = 0  # images that a MAX_SAMPLES key cut off
    # Files of the folder that are not read, one line per place.
    unread: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()  # what is wrong with masks, one line each
    # Image → mask of normal images; only check_dataset.py reads these.
    normal_masks: Mapping[Path, Source] = field(default_factory=dict)
    # Slices of its volumes that do not count, see :mod:`datasets.foreground`.
    background: tuple[Sample, ...] = ()

    @property
    def labels(self) -> list[int]:
        """One label per sample."""
        labels = [sample.label for sample in self.samples if sample.label is not None]
        assert len(labels) == len(self.samples)
        return labels

    @property
    def summary(self) -> str:
        """Number of samples, and a digest of their names below the folder and their labels."""
        names = "\n".join(
            f"{os.path.relpath(sample.name, self.folder)} {sample.label}" for sample in self.samples
        )
        digest = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return f"{len(self.samples)} images, names {digest}"

    def cut(self, max_samples: int, seed: int, *, whole_volumes: bool = False) -> Split:
        """At most ``max_samples`` samples, drawn by a seeded shuffle if there are more.

        Args:
            max_samples: How many.
            seed: Seed of the shuffle.
            whole_volumes: Draw volumes with all their slices, as many as fit and at least one: a
                part of a volume has neither its label nor its score.
        """
        if len(self.samples) <= max_samples:
            return self
        drawn: dict[object, list[Sample]] = defaultdict(list)
        for number, sample in enumerate(self.samples):
            drawn[(whole_volumes and sample.volume_name) or number].append(sample)
        shuffled = list(drawn.values())
        random.Random(seed).shuffle(shuffled)
        kept = shuffled[0]
        for each in shuffled[1:]:
            kept += each if len(kept) + len(each) <= max_samples else []
        return replace(self, samples=tuple(kept), num_left_out=len(self.samples) - len(kept))


def expand_frames(sample: Sample) -> list[Sample]:
    """One sample per frame of a file.

    A file whose header cannot be read stays one sample: reading it later reports the error, where
    it can be handled.
    """
    if sample.series is not None:
        return list(_slices(sample, SeriesFile(sample.series, sample.axis)))
    try:
        count = count_frames(sample.path, axis=sample.axis)
    except UserError:
        return [sample]
    return [replace(sample, frame=frame) for frame in range(count)] if count > 1 else [sample]


def _slices(sample: Sample, file: SeriesFile) -> Iterator[Sample]:
    for frame in range(file.num_frames):
        plane = file.plane(frame)
        alone = plane is not None and plane.frame is None
        yield replace(sample, path=plane.path if plane and alone else sample.path, frame=frame)


def mask_of_another_size(sample: Sample, image: Sequence[int], mask: Sequence[int]) -> str:
    """One line about a mask whose (height, width) differs from its image's."""
    assert sample.mask is not None
    return (
        f"{shown(name_of(sample.mask))}: is {mask[1]} × {mask[0]} pixels but its image "
        f"{shown(sample.path)} is {image[1]} × {image[0]}; redraw the mask at that size"
    )


def mask_without_mark(sample: Sample) -> str:
    """One line about an anomalous image whose mask is empty."""
    assert sample.mask is not None
    return (
        f"{shown(name_of(sample.mask))}: is empty although {shown(sample.path)} is in an anomalous "
        "folder; move the image to good/, or draw the mask"
    )
