"""Converts intensities of more than 8 bits to the 8 bits that the model sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Limits = tuple[float, float]
# Two percentiles, from 0 to 100, to their intensities.
Percentiles = Callable[[Limits], Any]

_AUTO_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class IntensityWindow:
    """The key INTENSITY_WINDOW: which intensities become black and white."""

    # ``auto`` (8-bit images as they are; else the 0.5th and 99.5th percentile), ``percentiles`` or
    # ``range``.
    kind: Literal["auto", "percentiles", "range"] = "auto"
    low: float = 0.0  # percentile or intensity that becomes 0
    high: float = 0.0  # percentile or intensity that becomes 255

    @classmethod
    def parse(cls, text: str) -> IntensityWindow:
        """``auto``, ``percentiles LOW,HIGH`` or ``LOW,HIGH``.

        Raises:
            ValueError: The text is none of these, or LOW is not below HIGH.
        """
        if text.strip().lower() == "auto":
            return cls()
        words = text.strip().split(maxsplit=1)
        percentiles = len(words) == 2 and words[0].lower() == "percentiles"
        low, high = (float(part) for part in (words[1] if percentiles else text).split(","))
        if not low < high or not np.isfinite([low, high]).all():
            raise ValueError("LOW must be below HIGH")
        if percentiles and not 0 <= low < high <= 100:
            raise ValueError("percentiles must be between 0 and 100")
        return cls("percentiles" if percentiles else "range", low, high)

    def apply(
        self, values: NDArray[np.generic], percentiles: Percentiles | None = None
    ) -> NDArray[np.uint8]:
        """Window intensities to 8 bits.

        Args:
            values: Any shape; must be finite.
            percentiles: Of the volume that ``values`` are cut from; by default of ``values``.

        Raises:
            ValueError: A value is NaN or infinite.
        """
        if self.kind == "auto" and values.dtype == np.uint8:
            return values.astype(np.uint8, copy=False)
        exact = values.astype(np.float64)
        if not np.isfinite(exact).all():
            raise ValueError("contains NaN or infinite values")
        if self.kind == "range":
            low, high = self.low, self.high
        else:
            chosen = _AUTO_PERCENTILES if self.kind == "auto" else (self.low, self.high)
            low, high = percentiles(chosen) if percentiles else np.percentile(exact, chosen)
        # A constant image has no contrast to stretch: it becomes black.
        scaled = (exact - low) / (high - low) if high > low else np.zeros_like(exact)
        return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
