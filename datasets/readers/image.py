"""Image files of all formats to 8-bit grey or RGB arrays, and mask files to booleans."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from datasets.readers.base import ImageFile, SliceAxis, optional_package
from datasets.readers.dicom import DicomFile
from datasets.readers.formats import kind_of, may_have_frames, shown
from datasets.readers.library_logs import kept_messages
from datasets.readers.nifti import NiftiFile
from datasets.readers.nifti_mask import NiftiMask
from datasets.readers.picture import PictureFile
from datasets.readers.tiff import TiffFile, is_tiff
from utils.errors import UserError
from utils.intensity import IntensityWindow

MAX_PIXELS = 100_000_000
_PACKAGES = {"dicom": "pydicom", "nifti": "nibabel"}
# What decoders run into on headers that they did not expect; the words mean nothing to a user.
_SURPRISES = (TypeError, AttributeError, LookupError, ArithmeticError, struct.error)
_PYTHON_WORDS = re.compile(r"<[^<>]*>|Use force=True[^.]*\.")


def read_image(
    path: Path,
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
        path: Picture, DICOM or NIfTI file.
        window: How intensities become 8 bits.
        frame: Which image of a file that holds several, from 0.
        axis: How a volume is cut.
        volume: Which volume of a file of four dimensions, from 0.

    Raises:
        UserError: The file is missing, corrupt, empty, too large, of several frames where none is
            asked for, or needs a package that is not installed; names it.
    """
    with open_image(path, axis, volume=volume) as file:
        raw = file.read(_frame_of(file, path, frame))
        if raw.display is not None and window.kind == "auto":
            pixels = raw.display
        else:
            pixels = window.apply(raw.values, raw.percentiles)
        pixels = 255 - pixels if raw.inverted else pixels
        return pixels if raw.padding is None else np.where(raw.padding, np.uint8(0), pixels)


def read_mask(
    path: Path,
    frame: int | None = None,
    *,
    axis: SliceAxis = "axial",
    image: Path | None = None,
) -> NDArray[np.bool_]:
    """A mask as (H, W): whatever is above 0 in any channel is anomalous.

    BMAD's masks hold several grey levels ({0, 58, 122, 255} in its brain set). Arguments and
    errors are those of :func:`read_image`; ``image`` is the file of the mask's image, on whose
    grid a volume's mask is laid.
    """
    marked = np.asarray(read_mask_values(path, frame, axis=axis, image=image) > 0)
    return np.asarray(marked.any(axis=2)) if marked.ndim == 3 else marked


def read_mask_values(
    path: Path,
    frame: int | None = None,
    *,
    axis: SliceAxis = "axial",
    image: Path | None = None,
) -> NDArray[Any]:
    """A mask's values as its file stores them, (H, W) or (H, W, C); see :func:`read_mask`."""
    with open_image(path, axis, mask_of=image) as file:
        values = file.read_mask(_frame_of(file, path, frame))
        if not np.isfinite(values).all():
            raise ValueError("holds NaN or infinite values")
        return values


def read_size(
    path: Path,
    frame: int | None = None,
    *,
    axis: SliceAxis = "axial",
    volume: int = 0,
    mask_of: Path | None = None,
) -> tuple[int, int]:
    """(height, width) as :func:`read_image`, or of a mask :func:`read_mask`, gives it.

    Reads the header alone; errors are those of :func:`open_image`.
    """
    with open_image(path, axis, volume=volume, mask_of=mask_of) as file:
        return file.size(_frame_of(file, path, frame))


def count_frames(path: Path, *, axis: SliceAxis = "axial") -> int:
    """How many images a file holds; files that cannot hold several are not opened."""
    if not may_have_frames(path):
        return 1
    with open_image(path, axis) as file:
        return file.num_frames


def count_volumes(path: Path) -> int:
    """How many volumes a NIfTI file holds, 1 for files of other kinds."""
    with open_image(path) as file:
        return file.num_volumes


def marked_frames(
    path: Path, *, axis: SliceAxis = "axial", image: Path | None = None
) -> list[bool]:
    """Of each frame of a mask file, as :func:`read_mask` reads it, whether it marks anything."""
    with open_image(path, axis, mask_of=image) as file:
        return [bool((file.read_mask(frame) > 0).any()) for frame in range(file.num_frames)]


def require_packages(paths: Iterable[Path]) -> None:
    """Import what the files need, so that a missing package is one error and not one a file.

    Raises:
        UserError: A package is missing; names the command that installs it.
    """
    for kind in {kind_of(path) for path in paths}:
        if kind in _PACKAGES:
            optional_package(_PACKAGES[kind])


@contextmanager
def open_image(
    path: Path, axis: SliceAxis = "axial", *, volume: int = 0, mask_of: Path | None = None
) -> Iterator[ImageFile]:
    """An image file; whatever goes wrong with it in the block is a one-line UserError.

    Args:
        path: The file.
        axis: How a volume is cut.
        volume: Which volume of a file of four dimensions, from 0.
        mask_of: The image that the file is a mask of.

    Raises:
        UserError: The file is missing, corrupt or needs a package; names it.
    """
    with kept_messages() as messages:
        try:
            with closing(_open(path, axis, volume, mask_of)) as file:
                yield file
        except UserError:
            raise
        except FileNotFoundError as error:
            raise UserError(f"{shown(path)}: no such file") from error
        # Decoders raise anything on bytes that they did not expect.
        except Exception as error:
            reason = _reason(error, messages)
            raise UserError(
                f"{shown(path)}: cannot be read as an image ({reason}); replace or remove it"
            ) from error


def _open(path: Path, axis: SliceAxis, volume: int, mask_of: Path | None) -> ImageFile:
    kind = kind_of(path)
    if kind == "nifti":
        if mask_of is not None and kind_of(mask_of) == "nifti":
            return NiftiMask(path, mask_of, axis)
        return NiftiFile(path, axis, volume)
    if kind == "dicom":
        return DicomFile(path)
    return TiffFile(path) if is_tiff(path) else PictureFile(path)


def _frame_of(file: ImageFile, path: Path, frame: int | None) -> int:
    """The frame to read, after a look at what the header promises."""
    count = file.num_frames
    if frame is None and count > 1:
        raise UserError(f"{shown(path)}: holds {count} frames; save them as files of their own")
    index = frame or 0
    if not 0 <= index < count:
        raise UserError(f"{shown(path)}: has no frame {index}, it holds {count}")
    height, width = file.size(index)
    if height * width == 0:
        raise UserError(f"{shown(path)}: empty; replace or remove it")
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{shown(path)}: {width} × {height} pixels are over the limit of {MAX_PIXELS}"
        )
    return index


def _reason(error: Exception, messages: Sequence[str]) -> str:
    """An error and what was logged before it, whole, on one line, without Python's objects."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is no PNG, JPEG, BMP or TIFF"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    if "cannot reshape array" in text:
        text = "its pixels are cut short"
    if isinstance(error, _SURPRISES):
        text = "its header is damaged"
    told = "; ".join(dict.fromkeys([text, *messages]))
    line = " ".join(_PYTHON_WORDS.sub("", told).split())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
