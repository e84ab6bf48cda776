"""A stack of axial slices as a DICOM series of magnetic resonance images."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import optional_package


def write_series(
    folder: Path, stack: NDArray[np.integer[Any]], *, spacing: float, distance: float
) -> None:
    """Write one file per slice, with the middle of the stack at the origin of the patient's space.

    The same stack and name make the same files.

    Args:
        folder: Where to; its name becomes the patient's.
        stack: (N, H, W) from 0 to 65535, lowest slice first, the patient's right on the left.
        spacing: Between rows and between columns, mm.
        distance: From slice to slice, mm.
    """
    pydicom = optional_package("pydicom")
    uid = optional_package("pydicom.uid")
    name = folder.name
    corner = [-(length - 1) / 2 * spacing for length in stack.shape[:0:-1]]
    study, series, frame = (uid.generate_uid(entropy_srcs=[name, kind]) for kind in "abc")
    folder.mkdir(parents=True)
    for number, pixels in enumerate(stack):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = uid.MRImageStorage
        dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=[name, str(number)])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame, ""
        dataset.PatientID, dataset.PatientName = name, f"{name}^"
        # The standard and viewers require them, but they may be empty.
        for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(dataset, keyword, "")
        dataset.AccessionNumber = dataset.StudyID = dataset.ReferringPhysicianName = ""
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, number + 1
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelSpacing, dataset.SliceThickness = [spacing, spacing], distance
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        height = (number - (len(stack) - 1) / 2) * distance
        dataset.ImagePositionPatient = [*corner, height]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 0
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
