"""What the readers of all file formats have in common."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.intensity import IntensityWindow, Percentiles

SliceAxis = Literal["axial", "coronal", "sagittal"]


@dataclass(frozen=True)
class RawImage:
    """One image with the intensities of its file."""

    values: NDArray[Any]  # (H, W) grey or (H, W, 3) RGB
    # Of the volume that the image is a slice of, or of the image without its padding; None: of
    # ``values``.
    percentiles: Percentiles | None = None
    # (H, W) uint8 through the file's own window or look-up table; None if it has neither.
    display: Callable[[], NDArray[np.uint8] | None] | None = None
    inverted: bool = False  # low intensities are bright
    padding: NDArray[np.bool_] | None = None  # (H, W), True outside the picture; shown black

    def windowed(self, window: IntensityWindow) -> NDArray[np.uint8]:
        """The picture through a window; ``auto`` leaves that to the file."""
        pixels = self.display() if self.display is not None and window.kind == "auto" else None
        if pixels is None:
            pixels = window.apply(self.values, self.percentiles)
        pixels = 255 - pixels if self.inverted else pixels
        return pixels if self.padding is None else np.where(self.padding, np.uint8(0), pixels)


class ImageFile:
    """An open file of one or more images; pixels are only read when asked for."""

    num_frames: int
    num_volumes = 1  # how many volumes the file has; the images are those of one

    @property
    def has_alpha(self) -> bool:
        """Whether there is transparency, which reading drops."""
        return False

    @property
    def is_deep(self) -> bool:
        """Whether intensities may have more than 8 bits, by the header."""
        return True

    def size(self, frame: int) -> tuple[int, int]:
        """(height, width) of a frame."""
        raise NotImplementedError

    def read(self, frame: int) -> RawImage:
        """A frame's intensities."""
        raise NotImplementedError

    def pixels(self, frame: int, window: IntensityWindow) -> NDArray[np.uint8]:
        """A frame as (H, W) or (H, W, 3) of 8 bits."""
        return self.read(frame).windowed(window)

    def read_mask(self, frame: int) -> NDArray[Any]:
        """A frame's stored values, (H, W) or (H, W, C), without alpha and look-up tables."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""


def turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, …) as the tag Orientation of EXIF and TIFF, 1 to 8, says; others change nothing."""
    if not 1 < orientation <= 8:
        return values
    values = np.swapaxes(values, 0, 1) if orientation >= 5 else values
    upwards, leftwards = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return values[:: -1 if upwards else 1, :: -1 if leftwards else 1]


def mask_of(colour: NDArray[Any], alpha: NDArray[Any] | None) -> NDArray[Any]:
    """A mask's values: its colours where they are not transparent, or only its transparency."""
    if alpha is None:
        return colour
    if (colour == colour[:1, :1]).all():
        # With a single colour, only the transparency can mark anything.
        return alpha if alpha.min() < alpha.max() or not alpha.any() else colour
    # If all is transparent, some program filled in an alpha channel that it did not know.
    seen = alpha > 0 if alpha.any() else np.ones_like(alpha, np.bool_)
    return np.where(seen if colour.ndim == 2 else seen[..., None], colour, 0)


def optional_package(module: str, use: str = "reads this format", extra: str = "medical") -> Any:
    """A module of an extra, imported when it is first needed.

    Args:
        module: Its name.
        use: What it does, for the message.
        extra: The extra that installs it.

    Raises:
        UserError: It is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f'{package}, which {use}, is not installed; run pip install -e ".[{extra}]"'
        ) from error
