"""DICOM series and NIfTI volumes made for tests, of one and the same patient space."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from tests.medical_files import saved, sequence_item

# Columns to the left, rows to the back: an axial slice.
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def write_slice(
    path: Path,
    pixels: NDArray[np.uint16],
    position: Sequence[float],
    *,
    series: str,
    directions: Sequence[Sequence[float]] = AXIAL,
    spacing: Sequence[float] = (1.0, 1.0),
    **tags: Any,
) -> Path:
    """One MR slice; position and directions in LPS, mm. ``tags`` are by keyword, None for none."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = series
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", series])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", series])
    dataset.PatientID, dataset.PatientName = "P1", "Test^Patient"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 3, 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing = [float(each) for each in spacing]
    dataset.ImagePositionPatient = [float(each) for each in position]
    dataset.ImageOrientationPatient = [float(each) for each in np.ravel(directions)]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
        if value is None:
            del dataset[keyword]
    return saved(dataset, path)


def write_series(
    folder: Path,
    stack: NDArray[np.uint16],
    *,
    heights: Sequence[float] | None = None,
    lean: Sequence[float] = (0.0, 0.0),
    uid: str = "",
    seed: int = 0,
    **tags: Any,
) -> list[Path]:
    """A stack (N, rows, columns) of axial slices, 2 mm apart, under names in no order.

    Args:
        folder: Where the files go.
        stack: Pixels, lowest slice first.
        heights: Of the slices, mm.
        lean: How far, in x and y, the stack leans for each mm upwards: a tilted gantry.
        uid: SeriesInstanceUID.
        seed: Of the names.
        tags: By keyword, None for none.
    """
    heights = [2.0 * index for index in range(len(stack))] if heights is None else heights
    names = np.random.default_rng(seed).permutation(len(stack))
    uid = uid or generate_uid()
    return [
        write_slice(
            folder / f"{name:03d}.dcm",
            pixels,
            (-10 + lean[0] * height, -20 + lean[1] * height, height),
            series=uid,
            **{"spacing": (1.5, 1.25), "InstanceNumber": int(name) + 1} | tags,
        )
        for name, pixels, height in zip(names, stack, heights, strict=True)
    ]


def write_enhanced(
    path: Path, stack: NDArray[np.uint16], *, order: Sequence[int] | None = None
) -> Path:
    """The stack of :func:`write_series` as one enhanced file of many frames.

    Args:
        path: The file.
        stack: (N, rows, columns), lowest slice first.
        order: In which slices are stored.
    """
    order = list(range(len(stack)) if order is None else order)
    write_slice(path, stack[0], (0, 0, 0), series=generate_uid())
    dataset = pydicom.dcmread(path)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.NumberOfFrames, dataset.PixelData = len(stack), stack[order].astype("<u2").tobytes()
    shared = sequence_item(
        PixelMeasuresSequence=[sequence_item(PixelSpacing=[1.5, 1.25], SliceThickness=2.0)],
        PlaneOrientationSequence=[sequence_item(ImageOrientationPatient=[*AXIAL[0], *AXIAL[1]])],
    )
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        sequence_item(
            PlanePositionSequence=[sequence_item(ImagePositionPatient=[-10.0, -20.0, 2.0 * number])]
        )
        for number in order
    ]
    dataset.save_as(path)
    return path
