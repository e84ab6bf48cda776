"""DICOM files: rescaled intensities, and the picture through the file's own window.

Standard: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.5.1.1.2 (padding) and C.7.6.16
(functional groups).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.readers.base import ImageFile, RawImage, optional_package
from datasets.readers.formats import shown
from utils.errors import UserError
from utils.intensity import IntensityWindow

# Where an enhanced multi-frame file keeps values that may differ between frames.
_FUNCTIONAL_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_TRANSFORMATIONS = (
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth"),
)


class DicomFile(ImageFile):
    """A DICOM file of one or more frames, which share their size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pixels = optional_package("pydicom.pixels")
        pydicom = optional_package("pydicom")
        try:
            self._header = pydicom.dcmread(path, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError as error:
            raise UserError(
                f"{shown(path)}: cannot be read as DICOM ('DICM' at byte 128 is missing); export "
                "the file again or remove it"
            ) from error
        if "Rows" not in self._header or "Columns" not in self._header:
            kind = getattr(self._header.get("SOPClassUID"), "name", "DICOM of an unknown kind")
            raise UserError(f"{shown(path)}: contains no image ({kind}); remove the file")
        if "TransferSyntaxUID" not in self._header.file_meta:
            raise UserError(
                f"{shown(path)}: TransferSyntaxUID (0002,0010) is missing; export the file again"
            )
        self.num_frames = int(self._header.get("NumberOfFrames") or 1)

    @property
    def is_deep(self) -> bool:
        """Whether more than 8 bits are stored."""
        return int(self._header.get("BitsStored") or self._header.BitsAllocated) > 8

    def size(self, frame: int) -> tuple[int, int]:
        """(Rows, Columns)."""
        return int(self._header.Rows), int(self._header.Columns)

    def read(self, frame: int) -> RawImage:
        """Rescaled intensities (for CT: Hounsfield units), or RGB; with the file's own picture."""
        stored = self._stored(frame)
        if self._header.PhotometricInterpretation == "PALETTE COLOR":
            return RawImage(self._through_palette(stored))
        if stored.ndim == 3:
            return RawImage(stored)
        header = self._transformations(frame)
        values = self._rescaled(stored, header)
        padding = self._padding(stored)
        picture = values if padding is None or padding.all() else values[~padding]
        return RawImage(
            values,
            percentiles=partial(np.percentile, picture),
            display=partial(self._displayed, values, header),
            inverted=self._header.PhotometricInterpretation == "MONOCHROME1",
            padding=padding,
        )

    def read_mask(self, frame: int) -> NDArray[Any]:
        """Stored values: a mask often inherits the rescaling of its image, and must not use it."""
        return self._stored(frame)

    def _stored(self, frame: int) -> NDArray[Any]:
        syntax = self._header.file_meta.TransferSyntaxUID
        # Floating-point files have neither.
        high, bits = self._header.get("HighBit"), self._header.get("BitsStored")
        if syntax.is_compressed:
            self._check_decoder(syntax)
        elif None not in (high, bits) and high != bits - 1:
            raise UserError(
                f"{shown(self._path)}: HighBit (0028,0102) is {high}, which does not match "
                f"BitsStored (0028,0101), which is {bits}; export the file again"
            )
        # Given a path, pydicom reads only the frame's bytes; deflated files are read as a whole.
        source = optional_package("pydicom").dcmread(self._path) if syntax.is_deflated else None
        rows, columns = self.size(frame)
        if self._header.BitsAllocated == 1 and rows * columns % 8 and self.num_frames > 1:
            # Frames of single bits need not begin at a byte, but pydicom assumes that they do.
            return np.asarray(self._pixels.pixel_array(source or self._path)[frame])
        # Returns RGB for every colour space except palettes.
        return np.asarray(self._pixels.pixel_array(source or self._path, index=frame))

    def _check_decoder(self, syntax: Any) -> None:
        try:
            decoder = self._pixels.get_decoder(syntax)
        except NotImplementedError as error:
            raise UserError(
                f"{shown(self._path)}: is compressed as {syntax.name}, which pydicom cannot "
                "read; decompress the file"
            ) from error
        if not decoder.is_available:
            # "pylibjpeg - requires pylibjpeg>=2.0 and …" → what pip understands.
            plugins = [each.partition("requires ")[2] for each in decoder.missing_dependencies]
            wanted = ", or ".join(plugins).replace("gdcm>", "python-gdcm>")
            raise UserError(
                f"{shown(self._path)}: is compressed as {syntax.name}; to read it, run pip install "
                f"{wanted}, or decompress the file"
            )

    def _transformations(self, frame: int) -> Any:
        """Tags that turn stored values into a picture: of the frame, all frames or the file."""
        merged = optional_package("pydicom").Dataset()
        merged.file_meta = self._header.file_meta
        for group in self._groups(frame):
            for keyword in _TRANSFORMATIONS:
                if keyword not in merged and group.get(keyword) not in (None, "", []):
                    merged[keyword] = group[keyword]
        # The picture's range for apply_windowing: 0 to 255.
        merged.PhotometricInterpretation = "MONOCHROME2"
        merged.PixelRepresentation, merged.BitsStored = 0, 8
        return merged

    def _rescaled(self, stored: NDArray[Any], header: Any) -> NDArray[Any]:
        if "ModalityLUTSequence" in header:
            # Wide enough for the table's length, which pydicom clips to.
            return np.asarray(self._pixels.apply_modality_lut(stored.astype(np.int64), header))
        slope = header.setdefault("RescaleSlope", 1).value
        intercept = header.setdefault("RescaleIntercept", 0).value
        if slope == 0:
            raise UserError(
                f"{shown(self._path)}: RescaleSlope (0028,1053) is 0, which would make the image "
                "blank; set it to 1 or remove it"
            )
        if (slope, intercept) == (1, 0):
            return stored
        return np.asarray(self._pixels.apply_modality_lut(stored, header))

    def _displayed(self, values: NDArray[Any], header: Any) -> NDArray[np.uint8] | None:
        """Through the first window of the file, else its table; None if it has neither."""
        for keyword in ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"):
            header.pop(keyword, None)
        window = [
            np.atleast_1d(header.get(key, np.nan))[0] for key in ("WindowCenter", "WindowWidth")
        ]
        if np.isfinite(np.asarray(window, float)).all() and window[1] > 0:
            if window[1] < 1:
                header.VOILUTFunction = "LINEAR_EXACT"
            with np.errstate(divide="ignore", invalid="ignore"):
                shades = self._pixels.apply_windowing(values, header)
        elif "VOILUTSequence" in header:
            shades = self._through_voi_table(values, header)
        elif self._header.BitsAllocated == 1:
            shades = values * 255.0
        else:
            return None
        return np.rint(shades).astype(np.uint8)

    def _through_voi_table(self, values: NDArray[Any], header: Any) -> NDArray[Any]:
        count, first, bits = (int(each) for each in header.VOILUTSequence[0].LUTDescriptor)
        levels = np.arange(first, first + (count or 2**16))
        table = self._pixels.apply_voi(levels, header)
        places = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)
        if bits == 16 and table.max() < 2**15:
            # Declared with the bits it is stored in: which value is white is unknown.
            return IntensityWindow().apply(table[places])
        return np.asarray(np.clip(table[places] / (2**bits - 1), 0, 1) * 255)

    def _padding(self, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Pixels outside the picture: outside the circle of a CT, beside the film of a scan."""
        kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
        value = self._header.get(f"{kind}PixelPaddingValue")
        if value is None:
            return None
        limit = self._header.get(f"{kind}PixelPaddingRangeLimit")
        ends = np.array([value, value if limit is None else limit])
        # Some write the bits of a signed number in an unsigned type.
        low, high = np.sort(ends.astype(stored.dtype))
        return np.asarray((stored >= low) & (stored <= high))

    def _through_palette(self, stored: NDArray[Any]) -> NDArray[np.uint8]:
        count, first, _ = self._header.RedPaletteColorLookupTableDescriptor
        colours = self._pixels.apply_color_lut(stored, self._header)[..., :3]
        table = self._pixels.apply_color_lut(
            np.arange(first, first + (count or 2**16)), self._header
        )
        # 8 bits are often declared and stored as 16.
        return (colours >> 8 if table[..., :3].max() > 255 else colours).astype(np.uint8)

    def _groups(self, frame: int) -> Iterator[Any]:
        frames = self._header.get("PerFrameFunctionalGroupsSequence") or []
        shared = self._header.get("SharedFunctionalGroupsSequence") or []
        for group in (*frames[frame : frame + 1], *shared[:1]):
            for name in _FUNCTIONAL_GROUPS:
                yield from (group.get(name) or [])[:1]
        yield self._header
