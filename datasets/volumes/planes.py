"""A slice of a DICOM file in space, read from the file's header.

Standard: DICOM PS3.3, C.7.6.2 (image plane) and C.7.6.16.2 (functional groups of frames).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import optional_package

# Tolerance for rounding in directions and distances.
_EQUAL = 1e-3
# Slices this close to one another, in mm, are at the same position.
SAME_POSITION = 0.01
# Slices further apart, in mm, cannot be at the same position, whatever the rounding.
_NEAR = 1.0
# Tags that may distinguish several slices at one position, in the order in which they are tried.
KINDS = {
    "EchoNumbers": "several echoes",
    "EchoTime": "several echoes",
    "EffectiveEchoTime": "several echoes",
    "TemporalPositionIdentifier": "several time points",
    "TemporalPositionIndex": "several time points",
    "DiffusionBValue": "several diffusion weightings",
    "ConvolutionKernel": "several reconstructions",
    "AcquisitionNumber": "several acquisitions",
    "ImageType": "several kinds of image",
    "TriggerTime": "several time points",
    "AcquisitionTime": "several time points",
}
# The same in all slices of a volume; the others may differ within one.
OF_WHOLE_VOLUMES = tuple(KINDS)[:7]
_NO_IMAGES = {"SEG": "a segmentation", "RTDOSE": "a dose distribution"}
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction")
_TAGS = (
    *("SeriesInstanceUID", "SOPInstanceUID", "PatientID", "Rows", "Columns", "NumberOfFrames"),
    *("Modality", "SOPClassUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *(*_WINDOW, "VOILUTSequence", *_GROUPS, *KINDS),
)


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a DICOM file in space; lengths in mm, directions in LPS+ as DICOM has them."""

    path: Path
    frame: int | None  # which frame of it, from 0; None if the file has one
    uid: str  # SOPInstanceUID of the file
    size: tuple[int, int]  # rows and columns
    spacing: tuple[float, float]  # between rows, and between columns
    # (2, 3), unit vectors of growing column and growing row numbers.
    directions: NDArray[np.float64]
    position: NDArray[np.float64]  # (3,), the centre of the first pixel
    window: str  # all display tags of the file
    kinds: dict[str, str]  # values of the tags that may distinguish slices at one position
    empty: bool = False  # not in the file and not read: a slice that a segmentation leaves out
    joined: tuple[Plane, ...] = ()  # others at its position, of a mask: other segments

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,), the unit vector across the slice."""
        return np.cross(*self.directions)

    @property
    def height(self) -> float:
        """Position along the normal, mm."""
        return float(self.position @ self.normal)

    def lies_at(self, other: Plane) -> bool:
        """Whether both have the same pixels in space."""
        gap = np.linalg.norm(self.position - other.position)
        return bool(gap < SAME_POSITION) and self.lies_along(other)

    def lies_along(self, other: Plane) -> bool:
        """Whether both have the same directions, size and spacing."""
        return self.size == other.size and all(
            np.allclose(mine, its, rtol=_EQUAL, atol=_EQUAL)
            for mine, its in ((self.directions, other.directions), (self.spacing, other.spacing))
        )


def laid_on(mask: Sequence[Plane], image: Sequence[Plane]) -> tuple[Plane, ...] | None:
    """One mask slice per image slice, empty where the mask has none.

    Segmentations leave out slices without a mark, and have one slice per segment at a position.
    None if a slice of the mask is somewhere else.
    """
    heights, planes, count = np.array([plane.height for plane in mask]), list[Plane](), 0
    for its in image:
        near = np.flatnonzero(np.abs(heights - its.height) < _NEAR).tolist()
        mine = [mask[index] for index in near if mask[index].lies_at(its)]
        count += len(mine)
        first, *others = mine or [replace(its, empty=True)]
        planes.append(replace(first, joined=tuple(others)))
    return tuple(planes) if count == len(mask) else None


@dataclass(frozen=True)
class FileHeader:
    """What the header of a DICOM file says about its pictures."""

    series: str = ""  # SeriesInstanceUID, "" if there is none
    patient: str = ""  # PatientID, "" if there is none
    other: str = ""  # what it contains, if that is not an image to score
    num_frames: int = 0  # number of pictures
    planes: tuple[Plane, ...] = ()  # the pictures in space; empty if that is unknown


def read_header(path: Path) -> FileHeader:
    """The header of a DICOM file, as far as it can be read."""
    pydicom = optional_package("pydicom")
    found = FileHeader()
    # Damaged or incomplete headers raise anything; reading the picture reports the error.
    with suppress(Exception):
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        series, patient = (
            str(header.get(tag) or "").strip() for tag in ("SeriesInstanceUID", "PatientID")
        )
        num_frames = int(header.get("NumberOfFrames") or 1) if "Rows" in header else 0
        found = FileHeader(series, patient, _other(header), num_frames)
        if series:
            found = replace(found, planes=tuple(_frames(path, header)))
    return found


def _other(header: Any) -> str:
    """Name of a DICOM object that is not an image: a segmentation, dose, plan or document."""
    kind = header.get("SOPClassUID")
    if "Rows" not in header and kind is not None:
        return str(kind.name)
    return _NO_IMAGES.get(header.get("Modality"), "")


def _frames(path: Path, header: Any) -> Iterator[Plane]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame and int(header.get("NumberOfFrames") or 1) > 1:
        return
    shared = (header.get("SharedFunctionalGroupsSequence") or [])[:1]
    for number, group in enumerate(per_frame or [header]):
        places = [header, *(item for part in (group, *shared) for item in _items(part))]

        def value(tag: str, places: Sequence[Any] = places) -> Any:
            found = (each.get(tag) for each in places)
            return next((each for each in found if each not in (None, "")), None)

        directions = np.array(value("ImageOrientationPatient"), float).reshape(2, 3)
        position = np.array(value("ImagePositionPatient"), float).reshape(3)
        rows, columns = (float(each) for each in value("PixelSpacing"))
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        sizes = [rows, columns, *lengths[:, 0]]
        if min(sizes) <= 0 or not np.isfinite([*sizes, *position]).all():
            raise ValueError("no place in space")
        yield Plane(
            path=path,
            frame=number if per_frame else None,
            uid=str(header.get("SOPInstanceUID")),
            size=(int(header.Rows), int(header.Columns)),
            spacing=(rows, columns),
            directions=directions / lengths,
            position=position,
            window=" ".join(map(str, (*map(value, _WINDOW), *_tables(value("VOILUTSequence"))))),
            kinds={tag: str(value(tag)) for tag in KINDS},
        )


def _tables(sequence: Any) -> Iterator[Any]:
    for table in sequence or ():
        yield from (table.LUTDescriptor, table.LUTData)


def _items(group: Any) -> Iterator[Any]:
    """The functional groups of one frame, or of all."""
    for element in group:
        if element.VR == "SQ" and element.keyword not in _GROUPS:
            yield from element.value[:1]
