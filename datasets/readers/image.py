"""Image files of all formats to 8-bit grey or RGB arrays, and mask files to booleans."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import ImageFile, SliceAxis, optional_package
from datasets.readers.dicom import DicomFile
from datasets.readers.errors import named_errors
from datasets.readers.formats import kind_of, may_have_frames, shown
from datasets.readers.nifti import NiftiFile
from datasets.readers.nifti_mask import NiftiMask, NiftiOnSlices
from datasets.readers.picture import PictureFile
from datasets.readers.tiff import TiffFile, is_tiff
from datasets.readers.volume import VolumeFile
from datasets.volumes.planes import laid_on
from datasets.volumes.series import Series
from datasets.volumes.series_file import SeriesFile, SliceMask
from utils.errors import UserError
from utils.intensity import IntensityWindow

# What is read: a file, or the files of a DICOM series.
Source = Path | Series

MAX_PIXELS = 100_000_000
_PACKAGES = {"dicom": "pydicom", "nifti": "nibabel"}


def read_image(
    path: Source,
    window: IntensityWindow,
    frame: int | None = None,
    *,
    axis: SliceAxis = "axial",
    volume: int = 0,
) -> NDArray[np.uint8]:
    """An image as (H, W) grey or (H, W, 3) RGB, 8 bits.

    Palettes, CMYK and alpha are converted (alpha is dropped), EXIF rotation is applied, and
    intensities of more than 8 bits go through ``window``.

    Args:
        path: Picture, DICOM or NIfTI file, or a DICOM series.
        window: How intensities become 8 bits.
        frame: Which image of a file that has several, from 0.
        axis: How a volume is cut.
        volume: Which volume of a file of four dimensions, from 0.

    Raises:
        UserError: The file is missing, corrupt, empty or too large, has several frames and
            ``frame`` is None, or needs a package that is not installed.
    """
    with open_image(path, axis, volume=volume) as file:
        return file.pixels(_frame_of(file, path, frame), window)


def read_mask(
    path: Source,
    frame: int | None = None,
    *,
    axis: SliceAxis = "axial",
    image: Source | None = None,
) -> NDArray[np.bool_]:
    """A mask as (H, W): whatever is above 0 in any channel is anomalous.

    BMAD's masks have several grey levels ({0, 58, 122, 255} in its brain set). Arguments and
    errors are those of :func:`read_image`; ``image`` is the mask's image, to whose grid the mask
    of a volume is brought.
    """
    marked = np.asarray(read_mask_values(path, frame, axis=axis, image=image) > 0)
    return np.asarray(marked.any(axis=2)) if marked.ndim == 3 else marked


def read_mask_values(
    path: Source, frame: int | None, *, axis: SliceAxis, image: Source | None
) -> NDArray[Any]:
    """A mask's values as its file stores them, (H, W) or (H, W, C); see :func:`read_mask`."""
    with open_image(path, axis, mask_of=image) as file:
        values = file.read_mask(_frame_of(file, path, frame))
        if not np.isfinite(values).all():
            raise ValueError("contains NaN or infinite values")
        return values


def read_size(
    path: Source,
    frame: int | None = None,
    *,
    axis: SliceAxis = "axial",
    volume: int = 0,
    mask_of: Source | None = None,
) -> tuple[int, int]:
    """(height, width) of what :func:`read_image`, or for a mask :func:`read_mask`, returns.

    Reads only the header; errors are those of :func:`open_image`.
    """
    with open_image(path, axis, volume=volume, mask_of=mask_of) as file:
        return file.size(_frame_of(file, path, frame))


def count_frames(path: Path, *, axis: SliceAxis = "axial") -> int:
    """How many images a file has; files that cannot have several are not opened."""
    if not may_have_frames(path):
        return 1
    with open_image(path, axis) as file:
        return file.num_frames


def marked_frames(
    path: Source, *, axis: SliceAxis = "axial", image: Source | None = None
) -> list[bool]:
    """For each frame of a mask file, as :func:`read_mask` reads it, whether it marks anything."""
    with open_image(path, axis, mask_of=image) as file:
        return [bool((file.read_mask(frame) > 0).any()) for frame in range(file.num_frames)]


def require_packages(paths: Iterable[Path]) -> None:
    """Import what the files need, so that a missing package gives one error, not one per file.

    Raises:
        UserError: A package is missing; names the command that installs it.
    """
    for kind in {kind_of(path) for path in paths}:
        if kind in _PACKAGES:
            optional_package(_PACKAGES[kind])


@contextmanager
def open_image(
    path: Source, axis: SliceAxis = "axial", *, volume: int = 0, mask_of: Source | None = None
) -> Iterator[ImageFile]:
    """An image file; any error with it in the block becomes a one-line UserError.

    Args:
        path: The file, or a DICOM series.
        axis: How a volume is cut.
        volume: Which volume of a file of four dimensions, from 0.
        mask_of: The image that the file is a mask of.

    Raises:
        UserError: The file is missing, corrupt or needs a package; names it.
    """
    with named_errors(name_of(path)), closing(_open(path, axis, volume, mask_of)) as file:
        yield file


def name_of(source: Source) -> Path:
    """The path of a file, or the name of a series."""
    return source.name if isinstance(source, Series) else source


def _open(source: Source, axis: SliceAxis, volume: int, mask_of: Source | None) -> ImageFile:
    if isinstance(source, Series):
        return SeriesFile(_laid_on(source, mask_of) if mask_of is not None else source, axis)
    kind = kind_of(source)
    if kind == "nifti":
        is_volume = isinstance(mask_of, Series) or (mask_of and kind_of(mask_of) == "nifti")
        if mask_of is not None and is_volume:
            return _mask_on_grid(source, mask_of, axis)
        return NiftiFile(source, axis, volume)
    if isinstance(mask_of, Series):
        return SliceMask(_open(source, axis, volume, None), SeriesFile(mask_of, axis))
    if kind == "dicom":
        return DicomFile(source)
    return TiffFile(source) if is_tiff(source) else PictureFile(source)


# Called again for each slice.
@lru_cache(maxsize=4)
def _laid_on(mask: Series, image: Source) -> Series:
    if not isinstance(image, Series):
        raise UserError(
            f"{shown(mask.name)}: is DICOM but its image {shown(image)} is NIfTI; convert one of "
            "them so that both use the same format"
        )
    planes = laid_on(mask.planes, image.planes)
    if planes is None:
        raise UserError(
            f"{shown(mask.name)}: its slices are not at the same positions as those of its image "
            f"{shown(image.name)}; redraw the mask on its image's grid"
        )
    return replace(mask, planes=planes)


def _mask_on_grid(path: Path, image: Source, axis: SliceAxis) -> ImageFile:
    file = _open(image, axis, 0, None)
    assert isinstance(file, VolumeFile)
    if isinstance(file, SeriesFile) and file.own_slices and not file.straight:
        return NiftiOnSlices(path, file, name_of(image))
    return NiftiMask(path, file, name_of(image), axis)


def _frame_of(file: ImageFile, source: Source, frame: int | None) -> int:
    """The frame to read, once the header's sizes are checked."""
    path = name_of(source)
    count = file.num_frames
    if frame is None and count > 1:
        raise UserError(f"{shown(path)}: has {count} frames; save each one as a separate file")
    index = frame or 0
    if not 0 <= index < count:
        raise UserError(f"{shown(path)}: has no frame {index}, only {count} in all")
    height, width = file.size(index)
    if height * width == 0:
        raise UserError(f"{shown(path)}: is empty; replace or remove it")
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{shown(path)}: has {width} × {height} pixels, over the limit of {MAX_PIXELS}"
        )
    return index
