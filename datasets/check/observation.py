"""Looks at one image and its mask, for the check of a data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from datasets.folders.samples import NORMAL, Sample, mask_of_another_size, mask_without_mark
from datasets.readers.formats import shown
from datasets.readers.image import Source, name_of, open_image, read_mask_values
from utils.errors import UserError
from utils.intensity import IntensityWindow

Severity = Literal["error", "warning", "note"]

_WARNINGS = (
    "duplicate",
    "empty_mask",
    "marked_normal",
    "full_mask",
    "lossy_mask",
    "colour",
    "depth",
    "blank",
    "counts",
    "volume_spacing",
    "no_normal",
)
_NOTES = (
    *("mask_levels", "alpha", "mask_grid"),
    *("volume_grid", "volume_orientation", "volume_affine"),
)
# More grey levels than anyone draws: traces of JPEG or resizing.
_MANY_LEVELS = 16


@dataclass(frozen=True)
class Finding:
    """One thing that is worth knowing about a data set."""

    kind: str  # what sort of thing, in one word
    text: str  # one line that names the file

    @property
    def severity(self) -> Severity:
        """``error`` must be fixed, ``warning`` should be looked at, ``note`` is legal."""
        if self.kind in _NOTES:
            return "note"
        return "warning" if self.kind in _WARNINGS else "error"


@dataclass(frozen=True)
class Observation:
    """What a look at a sample found; small, so that those of a whole set fit into memory."""

    findings: Sequence[Finding]  # what is wrong with the image or its mask
    size: tuple[int, int] | None = None  # (height, width); None if the image cannot be read
    # Of the 8-bit pixels; equal for equal pictures in files of any format. None if the image
    # cannot be read, or all its pixels have the same value.
    digest: bytes | None = None
    coloured: bool = False  # whether the channels differ
    alpha: bool = False  # whether there is transparency, which reading drops
    deep: bool = False  # whether it may have more than 8 bits, which INTENSITY_WINDOW makes 8
    mask_levels: Sequence[float] = ()  # the values in its mask, empty if there are too many


def observe(sample: Sample) -> Observation:
    """Decode an image and its mask."""
    name = shown(Path(sample.name))
    try:
        pixels = sample.read(IntensityWindow())
        alpha, deep = _header_of(sample.source)
    except UserError as error:
        return Observation([Finding("unreadable", str(error))])
    coloured = pixels.ndim == 3 and bool((pixels != pixels[..., :1]).any())
    if pixels.ndim == 3 and not coloured:
        pixels = pixels[..., 0]
    findings, digest = [], None
    if (pixels == pixels[0, 0]).all():
        findings.append(Finding("blank", f"{name}: all pixels have the same value"))
    else:
        hashed = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        hashed.update(pixels.tobytes())
        digest = hashed.digest()
    height, width = pixels.shape[:2]
    levels: list[float] = []
    if sample.mask is not None:
        levels = _look_at_mask(sample, (height, width), findings)
    return Observation(findings, (height, width), digest, coloured, alpha, deep, levels)


def _look_at_mask(sample: Sample, size: tuple[int, int], findings: list[Finding]) -> list[float]:
    """The values of a mask; what is wrong with it is appended to ``findings``."""
    assert sample.mask is not None
    name = shown(Path(sample.name))
    try:
        values = read_mask_values(sample.mask, sample.frame, axis=sample.axis, image=sample.source)
    except UserError as error:
        findings.append(Finding("unreadable", str(error)))
        return []
    if values.shape[:2] != size:
        text = mask_of_another_size(sample, size, values.shape)
        findings.append(Finding("mask_size", text))
    levels = np.unique(values).tolist()
    if len(levels) > _MANY_LEVELS:
        text = f"{name}: its mask has {len(levels)} grey levels, as after JPEG or resizing; "
        findings.append(Finding("lossy_mask", text + "everything above 0 counts as anomalous"))
        levels = []
    marked = (values.reshape(*values.shape[:2], -1) > 0).any(axis=2)
    if sample.label == NORMAL:
        if marked.any():
            text = f"{name}: is in the normal folder but its mask is not empty; the mask is ignored"
            findings.append(Finding("marked_normal", text))
    elif not marked.any():
        findings.append(Finding("empty_mask", mask_without_mark(sample)))
    elif marked.all():
        text = f"{shown(name_of(sample.mask))}: marks the whole image; redraw it unless that is "
        findings.append(Finding("full_mask", text + "intended"))
    return levels


def _header_of(source: Source) -> tuple[bool, bool]:
    with open_image(source) as file:
        return file.has_alpha, file.is_deep
