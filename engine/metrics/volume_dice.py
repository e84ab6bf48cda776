"""Dice of whole volumes on their own pixels, gathered slice by slice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from datasets.folders.samples import Sample
from datasets.readers.image import read_size
from engine.metrics.collectors import Maps, Masks
from models.criteria import resize_maps


class VolumeDice:
    """Dice between the pixels above the threshold and the mask, on the grid of the source.

    Each slice's map is resized to the slice's own pixels, as a prediction writes it, and compared
    with the mask at its own size. Three counts are kept for each volume.

    Args:
        samples: Of the split.
        volumes: Position in the split → volume, for the slices of the volumes that are measured.
        threshold: Pixels with this score or above are found.
        background: Slices in which nothing is found, since they are not scored.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        volumes: Mapping[int, Path],
        threshold: float,
        background: Sequence[Sample] = (),
    ) -> None:
        self._samples, self._volumes, self._threshold = samples, volumes, threshold
        self._background = background
        self._common, self._sizes = Counter[Path](), Counter[Path]()

    def update(self, anomaly_maps: Maps, masks: Masks, indices: Sequence[int]) -> None:
        """Add a batch; its masks, which have RESIZE pixels along each side, are not used."""
        for anomaly_map, index in zip(anomaly_maps, indices, strict=True):
            volume = self._volumes.get(index)
            if volume is None:
                continue
            sample = self._samples[index]
            mask = None if sample.mask is None else sample.read_mask()
            size = _size(sample) if mask is None else mask.shape
            own_size = resize_maps(torch.from_numpy(anomaly_map)[None, None, None], size)[0, 0, 0]
            found = own_size.numpy() >= self._threshold
            self._sizes[volume] += int(found.sum())
            if mask is not None:
                self._common[volume] += int((found & mask).sum())
                self._sizes[volume] += int(mask.sum())

    def merge(self, other: VolumeDice) -> None:
        """Add another process's slices."""
        self._common.update(other._common)
        self._sizes.update(other._sizes)

    def compute(self) -> dict[Path, float]:
        """Volume → Dice, 0 to 1; volumes in which nothing is marked or found are left out."""
        sizes = self._sizes.copy()
        for sample in self._background:
            volume = sample.volume_name
            if volume is not None and sample.mask is not None:
                sizes[volume] += int(sample.read_mask().sum())
        return {volume: 2 * self._common[volume] / size for volume, size in sizes.items() if size}


def _size(sample: Sample) -> tuple[int, int]:
    return read_size(sample.source, sample.frame, axis=sample.axis, volume=sample.volume)
