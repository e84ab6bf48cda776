"""DICOM and NIfTI files that the tests write for themselves."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_dicom(path: Path, frames: NDArray[Any], **elements: Any) -> Path:
    """Write (H, W), (N, H, W) or (N, H, W, 3) integers of 8 or 16 bits; elements by keyword."""
    dataset = dicom_dataset(frames)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return saved(dataset, path)


def saved(dataset: Dataset, path: Path) -> Path:
    """Write a DICOM file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def packaged(name: str) -> Path:
    """A DICOM file that pydicom brings along."""
    return Path(str(get_testdata_file(name, download=False)))


def dicom_dataset(frames: NDArray[Any]) -> Dataset:
    """What :func:`write_dicom` writes, before its elements are set."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    colour = frames.ndim == 4
    if frames.ndim > 2:
        dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = frames.shape[-3:-1] if colour else frames.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    bits = 8 * frames.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    dataset.PixelData = frames.tobytes() + b"\0" * (frames.nbytes % 2)
    return dataset


def sequence_item(**elements: Any) -> Dataset:
    """An item of a DICOM sequence."""
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def write_nifti(
    path: Path, volume: NDArray[Any], affine: NDArray[Any] | None = None, *, slope: float = 1
) -> Path:
    """Write (X, Y, Z); stored times ``slope`` is what readers see."""
    image = nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine)
    image.header.set_slope_inter(slope, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def windowed(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Intensities as 8 bits, black up to ``low`` and white from ``high`` on."""
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def stretched(values: NDArray[Any], of: NDArray[Any] | None = None) -> NDArray[np.uint8]:
    """Black up to the 0.5th percentile, white from the 99.5th on; of other values where given."""
    return windowed(values, *np.percentile(values if of is None else of, (0.5, 99.5)))
