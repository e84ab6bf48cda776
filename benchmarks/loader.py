"""Images per second of the training loader, with and without CACHE_IMAGES.

    python -m benchmarks.loader --images 200 --side 1024 --workers 0 2

Run from the repository's root. PNGs of phantoms are written into a temporary folder; the system
keeps them in memory, so that decoding is measured and not the drive.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from tqdm import tqdm

from datasets.cache import Mode, keep_images
from datasets.dataset import AnomalyDataset, EpochSampler, TrainDataset, train_loader
from datasets.folders.find import find_normal_images
from datasets.phantom.draw import draw_phantom
from utils.errors import run_script
from utils.intensity import IntensityWindow

# Name in the table → CACHE_IMAGES. The last one finds what the one before it has kept.
MODES: dict[str, Mode] = {
    "none": "none",
    "ram": "ram",
    "disk, nothing kept before": "disk",
    "disk, found": "disk",
}
# Drawing takes longer than all that is measured: each drawing serves several files, moved.
DRAWINGS = 8


@dataclass(frozen=True)
class Measurement:
    """Seconds that one setting took.

    Attributes:
        preparing: To check all files and, where a mode keeps images, to keep them.
        first: Of the first epoch, starting the workers included.
        following: Of each epoch after it.
    """

    preparing: float
    first: float
    following: list[float]


def write_pngs(folder: Path, count: int, side: int) -> None:
    """Grey PNGs of ``side`` × ``side`` pixels."""
    folder.mkdir(parents=True)
    count_drawn = min(count, DRAWINGS)
    drawings = [
        draw_phantom(np.random.default_rng(each), side).image for each in range(count_drawn)
    ]
    for index in tqdm(range(count), "writing PNGs", leave=False, delay=2):
        image = np.roll(drawings[index % count_drawn], index, axis=1)
        (folder / f"{index:05d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


def measure(
    folder: Path, mode: Mode, cache: Path, *, workers: int, resize: int, batch: int, epochs: int
) -> Measurement:
    """Prepare a data set and go through it as training does, without a model."""
    split = find_normal_images(folder, key="TRAIN_DATA_PATH")
    started = time.perf_counter()
    dataset = keep_images(AnomalyDataset(split, resize, IntensityWindow()), mode, cache)
    preparing = time.perf_counter() - started
    sampler = EpochSampler(len(dataset), seed=0)
    loader = train_loader(
        TrainDataset(dataset, seed=0), sampler, batch_size=batch, num_workers=workers, pin=False
    )
    seconds = []
    for sampler.epoch in range(epochs):
        started = time.perf_counter()
        for _ in loader:
            pass
        seconds.append(time.perf_counter() - started)
    return Measurement(preparing, seconds[0], seconds[1:])


def row(name: str, workers: int, images: int, found: Measurement) -> str:
    """A line of the table."""
    first = images / (found.preparing + found.first)
    later = images / median(found.following)
    return f"| {name} | {workers} | {found.preparing:.2f} | {first:.0f} | {later:.0f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200, help="files")
    parser.add_argument("--side", type=int, default=1024, help="their pixels along each side")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="NUM_WORKERS")
    parser.add_argument("--resize", type=int, default=224, help="RESIZE")
    parser.add_argument("--batch", type=int, default=8, help="BATCH_SIZE_TRAIN")
    parser.add_argument("--epochs", type=int, default=8, help="epochs, 2 or more")
    options = parser.parse_args(arguments)
    if options.epochs < 2:
        parser.error("--epochs: give 2 or more")
    print("| CACHE_IMAGES | NUM_WORKERS | preparing, s | images / s, preparing and first epoch "
          "| images / s, following epochs |")  # fmt: skip
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        write_pngs(Path(scratch, "good"), options.images, options.side)
        for workers in options.workers:
            for name, mode in MODES.items():
                found = measure(
                    Path(scratch), mode, Path(scratch, f"cache{workers}"), workers=workers,
                    resize=options.resize, batch=options.batch, epochs=options.epochs,
                )  # fmt: skip
                print(row(name, workers, options.images // options.batch * options.batch, found))


if __name__ == "__main__":
    run_script(main)
