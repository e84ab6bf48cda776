"""DICOM files: rescaled intensities and the window that the file names, frame by frame.

Standard: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT) and C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.formats import shown
from datasets.raw import RawImage, optional_package
from utils.errors import UserError
from utils.intensity import Limits

# Where an enhanced multi-frame file keeps what may differ from frame to frame.
_FUNCTIONAL_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


class DicomFile:
    """A DICOM file of one or more frames.

    Args:
        path: The file.

    Raises:
        UserError: pydicom is missing, or the file holds no pixels.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header = optional_package("pydicom").dcmread(path, stop_before_pixels=True)
        if "Rows" not in self._header or "Columns" not in self._header:
            kind = getattr(self._header.get("SOPClassUID"), "name", "DICOM of an unknown kind")
            raise UserError(f"{shown(path)}: holds no image ({kind}); remove the file")

    @property
    def num_frames(self) -> int:
        """NumberOfFrames, 1 where it is missing."""
        return int(self._header.get("NumberOfFrames") or 1)

    def size(self, frame: int) -> tuple[int, int]:
        """(Rows, Columns), which all frames share."""
        return int(self._header.Rows), int(self._header.Columns)

    def read(self, frame: int) -> RawImage:
        """Rescaled intensities (for CT: Hounsfield units), or RGB; with the file's window."""
        stored = self._stored(frame)
        if self._header.PhotometricInterpretation == "PALETTE COLOR":
            return RawImage(self._through_palette(stored))
        if stored.ndim == 3:
            return RawImage(stored)
        values = self._rescaled(stored, frame)
        window = self._window(frame)
        return RawImage(
            values,
            window=window,
            display=None if window else self._through_voi_table(values),
            inverted=self._header.PhotometricInterpretation == "MONOCHROME1",
        )

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Stored values: a mask often inherits the rescaling of its image, and must not use it."""
        return self._stored(frame)

    def _stored(self, frame: int) -> NDArray[Any]:
        self._check_decoder()
        # Reads this frame's bytes alone, and gives RGB for every colour space but palettes.
        array = optional_package("pydicom.pixels").pixel_array(self._path, index=frame)
        return np.asarray(array)

    def _check_decoder(self) -> None:
        syntax = self._header.file_meta.TransferSyntaxUID
        if not syntax.is_compressed:
            return
        decoder = optional_package("pydicom.pixels").get_decoder(syntax)
        if not decoder.is_available:
            # "pylibjpeg - requires pylibjpeg>=2.0 and …" → the part that pip understands.
            plugins = [each.partition("requires ")[2] for each in decoder.missing_dependencies]
            wanted = ", or ".join(plugins).replace("gdcm>", "python-gdcm>")
            raise UserError(
                f"{shown(self._path)}: is compressed as {syntax.name}; to read it, pip install "
                f"{wanted}, or decompress the file"
            )

    def _rescaled(self, stored: NDArray[Any], frame: int) -> NDArray[Any]:
        if "ModalityLUTSequence" in self._header:
            pixels = optional_package("pydicom.pixels")
            return np.asarray(pixels.apply_modality_lut(stored, self._header))
        slope = self._number("RescaleSlope", frame, 1.0)
        intercept = self._number("RescaleIntercept", frame, 0.0)
        return stored if (slope, intercept) == (1, 0) else stored * slope + intercept

    def _window(self, frame: int) -> Limits | None:
        """The first window of the file; the tangent of a sigmoid one."""
        centre = self._number("WindowCenter", frame, np.nan)
        width = self._number("WindowWidth", frame, np.nan)
        function = next(self._values("VOILUTFunction", frame), "LINEAR")
        if function == "LINEAR" and width > 1:
            # C.11.2.1.2.1: black is reached at c - 0.5 - (w - 1) / 2, white w - 1 above.
            centre, width = centre - 0.5, width - 1
        if not np.isfinite([centre, width]).all() or width <= 0:
            return None
        return centre - width / 2, centre + width / 2

    def _through_voi_table(self, values: NDArray[Any]) -> NDArray[np.uint8] | None:
        if not self._header.get("VOILUTSequence"):
            return None
        levels = np.rint(values).astype(np.int64)
        table = optional_package("pydicom.pixels").apply_voi(levels, self._header)
        bits = int(self._header.VOILUTSequence[0].LUTDescriptor[2])
        return np.rint(np.clip(table / (2**bits - 1), 0, 1) * 255).astype(np.uint8)

    def _through_palette(self, stored: NDArray[Any]) -> NDArray[np.uint8]:
        colours = optional_package("pydicom.pixels").apply_color_lut(stored, self._header)
        return (colours >> 8 if colours.dtype.itemsize == 2 else colours).astype(np.uint8)

    def _number(self, keyword: str, frame: int, default: float) -> float:
        return float(next(self._values(keyword, frame), default))

    def _values(self, keyword: str, frame: int) -> Iterator[Any]:
        """An element's first value, as the frame, all frames and the file have it."""
        for group in self._groups(frame):
            value = group.get(keyword)
            several = isinstance(value, Sequence) and not isinstance(value, str)
            yield from (
                each for each in (value if several else [value])[:1] if each not in (None, "")
            )

    def _groups(self, frame: int) -> Iterator[Any]:
        frames = self._header.get("PerFrameFunctionalGroupsSequence") or []
        shared = self._header.get("SharedFunctionalGroupsSequence") or []
        for group in (*frames[frame : frame + 1], *shared[:1]):
            for name in _FUNCTIONAL_GROUPS:
                yield from (group.get(name) or [])[:1]
        yield self._header

    def close(self) -> None:
        """Nothing is held open."""
