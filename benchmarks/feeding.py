"""Images per second and core from file to augmented tensor, by format; decoders side by side.

    OMP_NUM_THREADS=1 python -m benchmarks.feeding --json benchmarks/feeding.json

Run from the repository's root. Phantoms with noise are written into a temporary folder, so that the
system keeps the files in memory. Images are read in a shuffled order, as in training. Decoders that
are not installed are left out: ``pip install pyvips-binary pyvips simplejpeg`` adds two.
"""

import argparse
import importlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import imagecodecs
import numpy as np
import torch
from PIL import Image
from torchvision.io import decode_image

from benchmarks.throughput import table_line
from benchmarks.volumes import draw_stack, machine, write_stack_nifti, write_stack_series
from datasets.folders.find import find_normal_images
from datasets.transforms import augment, resize_image
from utils.errors import run_script
from utils.intensity import IntensityWindow

SIZE = 224
STAGES = ("decode", "resize", "augment")
# Name → pixels along each side, and the suffix of the files.
FORMATS = {
    "PNG 240": (240, ".png"),
    "PNG 1024": (1024, ".png"),
    "JPEG 1024": (1024, ".jpg"),
    "DICOM 512": (512, ".dcm"),
    "NIfTI 240": (240, ".nii.gz"),
}


def write_images(folder: Path, name: str, count: int) -> None:
    """As many images of a format; slices of 16 bits for DICOM and NIfTI."""
    side, suffix = FORMATS[name]
    stack = draw_stack(count, side)
    if suffix == ".dcm":
        write_stack_series(folder / "series", stack)
        return
    folder.mkdir(parents=True)
    if suffix == ".nii.gz":
        write_stack_nifti(folder / "volume.nii.gz", stack)
        return
    for number, pixels in enumerate((stack >> 4).astype(np.uint8)):
        cv2.imwrite(str(folder / f"{number:04d}{suffix}"), pixels)


def stage_rates(folder: Path) -> dict[str, float]:
    """Images per second of each stage, and of all of them."""
    samples = find_normal_images(folder, key="TRAIN_DATA_PATH").samples
    order = np.random.default_rng(0).permutation(len(samples))
    seconds = dict.fromkeys(STAGES, 0.0)
    for seed, index in enumerate(order):
        times = [time.perf_counter()]
        pixels = samples[index].read(IntensityWindow())
        times.append(time.perf_counter())
        image = resize_image(pixels, SIZE)
        times.append(time.perf_counter())
        augment(image, SIZE, seed)
        times.append(time.perf_counter())
        for name, spent in zip(STAGES, np.diff(times), strict=True):
            seconds[name] += spent
    rates = {name: len(order) / spent for name, spent in seconds.items()}
    return rates | {"all": len(order) / sum(seconds.values())}


def decoders(suffix: str) -> dict[str, Callable[[Path], Any]]:
    """Ways to decode a PNG or JPEG file; the first one is what this code takes."""
    codec = imagecodecs.png_decode if suffix == ".png" else imagecodecs.jpeg_decode
    found: dict[str, Callable[[Path], Any]] = {
        "Pillow": lambda path: np.asarray(Image.open(path)),
        "OpenCV": lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
        "imagecodecs": lambda path: codec(path.read_bytes()),
        "torchvision": lambda path: decode_image(str(path)),
    }
    if vips := _installed("pyvips"):
        found["libvips"] = lambda path: vips.Image.new_from_file(str(path)).numpy()
    if (turbo := _installed("simplejpeg")) and suffix == ".jpg":
        found["turbojpeg"] = lambda path: turbo.decode_jpeg(path.read_bytes(), colorspace="GRAY")
    return found


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # the latter where the library behind it is missing
        return None


def decoder_rates(folder: Path) -> dict[str, float]:
    """Images per second of each decoder."""
    paths = sorted(folder.iterdir())
    rates = {}
    for name, decode in decoders(paths[0].suffix).items():
        started = time.perf_counter()
        for path in paths:
            decode(path)
        rates[name] = len(paths) / (time.perf_counter() - started)
    return rates


def measured(rounds: int, measure: Callable[[], dict[str, float]]) -> dict[str, list[float]]:
    """The rates of each round but the first, which fills the system's cache."""
    found = [measure() for _ in range(rounds + 1)][1:]
    return {name: [round(each[name], 1) for each in found] for name in found[0]}


def table(title: str, rows: dict[str, dict[str, list[float]]], columns: Iterable[str]) -> str:
    """Medians as a Markdown table; a column that a row lacks is a dash."""
    names = list(columns)
    lines = [table_line([title, *names]), table_line(["---"] * (len(names) + 1))]
    for row, rates in rows.items():
        cells = [f"{median(rates[name]):.0f}" if name in rates else "-" for name in names]
        lines.append(table_line([row, *cells]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100, help="of each format; default 100")
    parser.add_argument("--rounds", type=int, default=5, help="default 5; one more is not counted")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every rate")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    stages, decoding = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (_, suffix) in FORMATS.items():
            images = Path(scratch, name, "good")
            write_images(images, name, options.images)
            stages[name] = measured(options.rounds, partial(stage_rates, images.parent))
            if suffix in (".png", ".jpg"):
                decoding[name] = measured(options.rounds, partial(decoder_rates, images))
    names = dict.fromkeys(name for rates in decoding.values() for name in rates)
    print(table("images / s and core", stages, (*STAGES, "all")))
    print(table("decoding alone", decoding, names))
    if options.json:
        words = ["python", "-m", "benchmarks.feeding", *(arguments or sys.argv[1:])]
        content = {
            "command": shlex.join(words),
            "machine": machine(),
            "images": options.images,
            "stages": stages,
            "decoders": decoding,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
