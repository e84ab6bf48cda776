"""Writes maps and masks of volumes as NIfTI, and masks as DICOM SEG, for viewers."""

import gzip
from collections.abc import MutableSequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import optional_package
from datasets.readers.formats import shown
from datasets.volumes.grid import Grid
from datasets.volumes.series import Series
from utils.errors import UserError
from utils.files import write_atomically

NAME = "QFAE"
# NIfTI's code for scanner coordinates, which a DICOM series has.
_SCANNER = 1
# Tolerance for rounding, mm.
_SAME_PLACE = 0.05
# NIfTI's codes for other units of length than mm.
_UNITS = {1: "meter", 3: "micron"}
# Voxel numbers to mm, and the code of what the mm refer to.
Form = tuple[NDArray[np.float64], int]
# Of patient and study; the standard requires them, but they may be empty.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


def write_nifti(
    path: Path, values: NDArray[np.generic], grid: Grid, source: Path | None = None
) -> None:
    """Write values on a grid: float32 for a map, uint8 for a mask.

    sform and qform are both set and equal, since viewers read either. Axes that are not at right
    angles have no qform, only an sform, and ITK's viewers refuse them.

    If the source's own forms disagree, or neither is set, viewers place it differently; both are
    then copied from the source, so that each viewer lays the values over it.

    Args:
        path: A ``.nii.gz`` file.
        values: (X, Y, Z).
        grid: Where they are.
        source: The NIfTI file whose grid it is.

    Raises:
        UserError: The file cannot be written.
    """
    nibabel = optional_package("nibabel")
    grid = grid if grid.skew else grid.rectangular()
    image = nibabel.Nifti1Image(values, grid.affine)
    units, forms = "mm", _equal_forms(grid, _SCANNER)
    if source is not None:
        header = nibabel.load(source).header
        units = _UNITS.get(int(header["xyzt_units"]) % 8, "mm")
        forms = _own_forms(header)
        if _agree(header):
            forms = _equal_forms(grid, forms[0][1] or forms[1][1])
    (sform, sform_code), (qform, qform_code) = forms
    image.header.set_xyzt_units(units)
    image.header.set_sform(sform, code=sform_code)
    image.header.set_qform(qform, code=qform_code, strip_shears=True)
    write_atomically(path, lambda file: _compress(image, file))


def forms_agree(source: Path) -> bool:
    """Whether the sform and the qform of a NIfTI file agree, or only one of them is set."""
    return _agree(optional_package("nibabel").load(source).header)


def _agree(header: Any) -> bool:
    (sform, sform_code), (qform, qform_code) = _own_forms(header)
    if sform_code and qform_code:
        far = (sform - qform) @ [*header.get_data_shape()[:3], 1]
        return bool(np.abs([far, (sform - qform)[:, 3]]).max() < _SAME_PLACE)
    return bool(sform_code or qform_code)


def _equal_forms(grid: Grid, code: int) -> tuple[Form, Form]:
    return (grid.affine, code), (grid.affine, 0 if grid.skew else code)


def _own_forms(header: Any) -> tuple[Form, Form]:
    sform = header.get_sform(coded=False), int(header["sform_code"])
    try:
        return sform, (header.get_qform(coded=False), int(header["qform_code"]))
    except ValueError:
        # An invalid quaternion, which some programs leave in a form that they do not set.
        return sform, (header.get_base_affine(), 0)


def _compress(image: Any, file: Any) -> None:
    # With a time in the file, equal maps would be different files.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as packed:
        image.to_stream(packed)


def write_segmentation(path: Path, mask: NDArray[np.bool_], series: Series, threshold: str) -> None:
    """Write a mask as a DICOM SEG object that refers to the slices of its series.

    Study and patient are those of the source, so that a PACS or 3D Slicer lays it over.

    Args:
        path: A ``.dcm`` file.
        mask: (N, rows, columns), one per plane.
        series: The source.
        threshold: What was marked, in words.

    Raises:
        UserError: highdicom is missing, the file cannot be written, or frames are in several files.
    """
    highdicom = optional_package("highdicom", use="writes DICOM SEG")
    pydicom = optional_package("pydicom")
    codes = optional_package("pydicom.sr.codedict").codes
    files = list(dict.fromkeys(plane.path for plane in series.planes))
    if len(files) > 1 and series.planes[0].frame is not None:
        raise UserError(
            f"{shown(series.name)}: no DICOM SEG was written, because its frames are in "
            f"{len(files)} files and a SEG can refer to only one; its map was written"
        )
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    for source in sources:
        # highdicom requires these, which anonymised files leave out.
        source.setdefault("SliceThickness", series.distance)
        for keyword in _MAY_BE_EMPTY:
            source.setdefault(keyword, "")
        character_sets = source.get("SpecificCharacterSet")
        if isinstance(character_sets, MutableSequence) and not character_sets[0]:
            character_sets[0] = "ISO 2022 IR 6"  # the meaning of an empty one
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME, version=version("qfae"), family=codes.cid7162.ArtificialIntelligence
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="anomaly",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=_as_frames(mask, series, sources),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=highdicom.UID(),
        series_number=int(sources[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=version("qfae"),
        device_serial_number="none",
        content_label="ANOMALY",
        content_description=threshold[:64],
    )
    write_atomically(path, segmentation.save_as)


def _as_frames(mask: NDArray[np.bool_], series: Series, sources: list[Any]) -> NDArray[np.uint8]:
    """The mask in the order of the source's frames; frames that are not in it stay empty."""
    if series.planes[0].frame is None:
        return mask.astype(np.uint8)
    frames = np.zeros((int(sources[0].NumberOfFrames), *mask.shape[1:]), np.uint8)
    for plane, marked in zip(series.planes, mask, strict=True):
        frames[plane.frame] = marked
    return frames
