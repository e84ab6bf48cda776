"""Samples to batches: reading, resizing, augmentation, loaders that drop nothing."""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.folders.samples import Split
from datasets.transforms import augment, resize_image, resize_mask
from utils.config.schema import SectionConfig
from utils.errors import UserError
from utils.intensity import IntensityWindow

Element = TypeVar("Element")


class Item(TypedDict):
    """One sample, or a batch of them with a leading batch axis.

    Keys:
        image: (3, H, W) uint8; :func:`datasets.transforms.normalise` comes after the transfer.
        mask: (H, W) bool; all False where the image is normal or the set has no masks. Training
            goes without.
        index: Position in the split's samples.
    """

    image: Tensor
    mask: NotRequired[Tensor]
    index: Tensor


class UnreadableFile(UserError):
    """An image or mask that cannot be read, met in the middle of a training or a test.

    A loader process passes an error on as text: its traceback is cut off here.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text.strip().rpartition(f"{type(self).__name__}: ")[2])


@contextmanager
def _others_told() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UnreadableFile(f"{error}; check_dataset.py lists all such files") from error


@dataclass(frozen=True)
class AnomalyDataset(Dataset[Item]):
    """The samples of a split as tensors."""

    split: Split
    size: int  # pixels along each side
    window: IntensityWindow  # how intensities of more than 8 bits become 8
    # The images, where they are kept; None to read the files.
    images: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, split: Split, config: SectionConfig) -> AnomalyDataset:
        """A split as a section of the config wants it, read from its files."""
        return cls(split, config.resize, config.window)

    def __len__(self) -> int:
        return len(self.split.samples)

    @_others_told()
    def __getitem__(self, index: int) -> Item:
        sample = self.split.samples[index]
        image = self.resized(index).expand(3, -1, -1)
        if sample.mask is None:
            mask = torch.zeros(self.size, self.size, dtype=torch.bool)
        else:
            mask = resize_mask(sample.read_mask(), self.size)
        return {"image": image, "mask": mask, "index": torch.tensor(index)}

    def resized(self, index: int) -> Tensor:
        """The image alone, (1 or 3, size, size) uint8."""
        if self.images is not None:
            return self.images[index].clone()
        return resize_image(self.split.samples[index].read(self.window), self.size)


class TrainDataset(Dataset[Item]):
    """Augmented training images; the augmentation depends only on seed, epoch and index."""

    def __init__(self, dataset: AnomalyDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    @_others_told()
    def __getitem__(self, key: tuple[int, int]) -> Item:
        """The item of (epoch, index)."""
        epoch, index = key
        seed = derive_seed(self.seed, epoch, index)
        image = augment(self.dataset.resized(index), self.dataset.size, seed)
        return {"image": image, "index": torch.tensor(index)}


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, index) keys; the epoch is part of the key, so workers need not be told.

    Process ``rank`` of ``world_size`` takes every ``world_size``-th key.
    """

    def __init__(self, num_samples: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self.num_samples // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        mine = order[self.rank :: self.world_size][: len(self)]
        return ((self.epoch, index) for index in mine)


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts and on nothing else."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def train_loader(
    dataset: TrainDataset, sampler: EpochSampler, *, batch_size: int, num_workers: int, pin: bool
) -> DataLoader[Item]:
    """Shuffled batches; the last partial one is dropped, so that every step weighs the same.

    Raises:
        UserError: There are fewer images than one batch needs.
    """
    if len(sampler) < batch_size:
        split = dataset.dataset.split
        cut = " (after MAX_SAMPLES_TRAIN)" if split.num_left_out else ""
        raise UserError(
            f"TRAIN_DATA_PATH: {split.folder} has only {len(sampler)} images per process{cut}, "
            f"but BATCH_SIZE_TRAIN is {batch_size}; lower BATCH_SIZE_TRAIN"
        )
    return create_loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        drop_last=True,
        pin_memory=pin,
        persistent_workers=True,
    )


def create_loader(
    dataset: Dataset[Element], *, num_workers: int, persistent_workers: bool = False, **options: Any
) -> DataLoader[Element]:
    """A loader with its own generator: its draws must not shift those of training.

    Takes the options of :class:`torch.utils.data.DataLoader`; ``num_workers`` may be 0 with any.
    """
    return DataLoader(
        dataset,
        num_workers=num_workers,
        persistent_workers=persistent_workers and num_workers > 0,
        worker_init_fn=_end_quietly,
        generator=torch.Generator(),
        **options,
    )


def _end_quietly(_: int) -> None:
    """A terminal sends Ctrl-C to all processes; the main one says so and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Only silences the loader's own thread; errors of readers still reach the main process.
    sys.excepthook = lambda *_: None
