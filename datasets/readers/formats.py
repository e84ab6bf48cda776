"""Which files are images, and what they are called."""

import os
from pathlib import Path
from typing import Literal

from utils.errors import printable

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom")
NIFTI_SUFFIXES = (".nii", ".nii.gz")

Kind = Literal["picture", "dicom", "nifti"]
KINDS: tuple[Kind, ...] = ("picture", "dicom", "nifti")

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "picture": IMAGE_SUFFIXES,
    "dicom": DICOM_SUFFIXES,
    "nifti": NIFTI_SUFFIXES,
}
ALL_SUFFIXES = (*IMAGE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES)
# DICOM's part 10: 128 bytes of anything, then these four.
_PREAMBLE, _MAGIC = 128, b"DICM"


def kind_of(path: Path) -> Kind | None:
    """The kind of an image file by its suffix, or as DICOM by its first bytes; None for others.

    DICOM files are often named by a number, ``1.2.840.113619.2``, ``x.IMA``, or without any dot.
    """
    name = path.name.lower()
    for kind, suffixes in _SUFFIXES.items():
        if name.endswith(suffixes):
            return kind
    return "dicom" if _begins_as_dicom(path) else None


def stem_of(path: Path) -> str:
    """The file name without its suffix, ``.nii.gz`` as a whole; what pairs images and masks."""
    suffix = next((each for each in ALL_SUFFIXES if path.name.lower().endswith(each)), "")
    return path.name[: len(path.name) - len(suffix)]


def may_have_frames(path: Path) -> bool:
    """Whether files of this kind can contain several images: DICOM, NIfTI and TIFF."""
    return path.suffix.lower() in (".tif", ".tiff") or kind_of(path) in ("dicom", "nifti")


def absolute(path: Path) -> Path:
    """An absolute path without ``..``; links are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100, since resolve() follows links


def shown(path: Path) -> str:
    """A path for messages: one line, harmless to the terminal, whatever its name."""
    return printable(str(path))


def _begins_as_dicom(path: Path) -> bool:
    # DICOM's directory file, which begins the same, and pipes, which block, are not images.
    if path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False
