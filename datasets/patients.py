"""Which patient an image belongs to, from its name or the PatientID of a DICOM file.

A PatientID is only kept as a digest, and neither is ever written.
"""

import hashlib
import re
from collections.abc import Sequence

from datasets.folders.samples import Sample
from datasets.readers.base import optional_package
from datasets.readers.formats import kind_of
from datasets.readers.image import Source
from datasets.volumes.series import Series
from utils.errors import UserError


def patients_of(samples: Sequence[Sample], pattern: str | None) -> list[str] | None:
    """One name per sample; None if headers do not distinguish patients.

    Args:
        samples: Images.
        pattern: PATIENT_PATTERN; None to use the headers of DICOM files.

    Raises:
        UserError: PATIENT_PATTERN does not match a file name.
    """
    if pattern is not None:
        try:
            return [patient_of(sample.stem, pattern) for sample in samples]
        except ValueError as error:
            raise UserError(f"PATIENT_PATTERN: {error}") from error
    patients: dict[Source, str] = {}
    for sample in samples:
        if sample.source not in patients:
            patient = dicom_patient(sample.source)
            if patient is None:
                return None
            patients[sample.source] = patient
    # Anonymisers often give all patients the same name.
    one = len(set(patients.values())) == 1 < len(patients)
    return None if one else [patients[sample.source] for sample in samples]


def patient_of(path_stem: str, pattern: str) -> str:
    """The patient of a file name: the pattern's first capture group, else the whole match.

    Args:
        path_stem: File name without its extension, such as ``BraTS2021_00012_flair_61``.
        pattern: Regular expression, searched anywhere in the stem.

    Raises:
        ValueError: The pattern does not match, or its capture group takes no part in the match.
    """
    match = re.search(pattern, path_stem)
    patient = match and match.group(1 if match.re.groups else 0)
    if not patient:
        raise ValueError(f"{path_stem}: the patient pattern {pattern} does not match this name")
    return patient


def dicom_patient(source: Source) -> str | None:
    """A digest of the PatientID of a DICOM file or series; None if there is none."""
    if isinstance(source, Series):
        return _digest(source.patient)
    if kind_of(source) != "dicom":
        return None
    try:
        header = optional_package("pydicom").dcmread(
            source, stop_before_pixels=True, specific_tags=["PatientID"]
        )
        patient = str(header.get("PatientID") or "").strip()
    # Damaged headers raise anything; reading the picture reports the error.
    except Exception:
        return None
    return _digest(patient)


def _digest(patient: str) -> str | None:
    return hashlib.sha256(patient.encode()).hexdigest() if patient else None
