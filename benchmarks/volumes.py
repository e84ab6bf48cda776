"""Seconds and memory per volume: reading, scoring, writing maps, each in a process of its own.

    OMP_NUM_THREADS=2 python -m benchmarks.volumes --json benchmarks/volumes.json

Run from the repository's root. A phantom head of 200 slices of 512 x 512 pixels with noise is
written into a temporary folder, as ``.nii.gz`` and as a DICOM series. Memory is the peak of
resident memory of the whole process; Python and its libraries alone are the row ``nothing``.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.measurement import processor
from benchmarks.steps import peak_bytes, prepare
from datasets.folders.inputs import find_inputs
from datasets.folders.samples import Sample
from datasets.folders.slicing import Slicing
from datasets.phantom.volume import draw_head
from datasets.phantom.write_series import write_series
from datasets.prediction_dataset import Input, read_input
from datasets.readers.base import SliceAxis
from datasets.transforms import resize_image
from datasets.volumes.grid import Grid
from datasets.volumes.map_files import write_nifti, write_segmentation
from engine.evaluate.scorer import Reductions, Scorer
from engine.prediction.volume_map import VolumeMap
from engine.predictor import Predictor
from utils.config.load import load_config
from utils.errors import run_script
from utils.intensity import IntensityWindow

NIFTI, DICOM = "volume.nii.gz", "series"
RESIZE = 224
SPACING, DISTANCE = 0.45, 0.8
_SIDE = 64


@dataclass(frozen=True)
class Work:
    """What a step needs.

    Attributes:
        source: The volume's file, or the folder of its series.
        config: The model's config.
        folder: Where to write.
    """

    source: Path
    config: Path
    folder: Path


def draw_stack(slices: int, side: int) -> NDArray[np.int16]:
    """A head with noise, (N, side, side) from 0 to 4095."""
    rng = np.random.default_rng(0)
    head = draw_head(rng, _SIDE, min(slices, 30)).image
    stack = np.empty((slices, side, side), np.int16)
    for number in range(slices):
        drawn = head[number * len(head) // slices]
        large = cv2.resize(drawn, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        noisy = large * 8 + rng.normal(40, 12, (side, side)).astype(np.float32)
        stack[number] = noisy.clip(0, 4095)
    return stack


def write_sources(folder: Path, slices: int, side: int) -> None:
    """Write one head as a file and as a series."""
    stack = draw_stack(slices, side)
    write_stack_series(folder / DICOM, stack)
    write_stack_nifti(folder / NIFTI, stack)


def write_stack_series(folder: Path, stack: NDArray[np.int16]) -> None:
    """Write a stack as a DICOM series."""
    write_series(folder, stack, spacing=SPACING, distance=DISTANCE)


def write_stack_nifti(path: Path, stack: NDArray[np.int16]) -> None:
    """Write a stack as a NIfTI file."""
    affine = np.diag([-SPACING, -SPACING, DISTANCE, 1.0])
    write_nifti(path, stack.transpose(2, 1, 0), Grid(stack.shape[::-1], affine))


def samples_of(work: Work, axis: SliceAxis = "axial") -> list[Sample]:
    """The slices of the volume."""
    return list(find_inputs([work.source], slicing=Slicing(axis)))


def prepare_nothing(work: Work) -> Callable[[], None]:
    """For the memory of Python and its libraries."""
    return lambda: None


def prepare_reading(work: Work, axis: SliceAxis) -> Callable[[], None]:
    """All slices at their own size and at that of the model, one after the other."""

    def read() -> None:
        for sample in samples_of(work, axis):
            read_input(sample, RESIZE, IntensityWindow())

    return read


def prepare_model(work: Work) -> Callable[[], None]:
    """Scores and maps of all slices, the maps at the slices' own size; weights are random."""
    settings = load_config(work.config, ["DEVICE=cpu"]).need_testing()
    setup = prepare(settings, settings.batch_size_test, as_published=False)
    scorer = Scorer(setup.fabric, (setup.model,), setup.criterion, Reductions.of(settings))
    predictor = Predictor(scorer, settings, None)
    samples = samples_of(work)
    pixels = samples[0].read(settings.window)
    image = resize_image(pixels, settings.resize).expand(3, -1, -1)
    inputs = [Input(sample, pixels, image) for sample in samples]

    def score() -> None:
        for start in range(0, len(inputs), settings.batch_size_test):
            predictor.score(inputs[start : start + settings.batch_size_test])

    return score


def filled_map(work: Work) -> VolumeMap:
    """A map with smooth scores in every slice."""
    samples = samples_of(work)
    volume = VolumeMap(samples[0])
    height, width = volume.file.size(0)
    rng = np.random.default_rng(0)
    for sample in samples:
        coarse = rng.random((_SIDE, _SIDE), np.float32)
        smooth: NDArray[np.float32] = np.asarray(cv2.resize(coarse, (width, height)), np.float32)
        volume.add(sample, float(smooth.max()), smooth)
    return volume


def prepare_map(work: Work) -> Callable[[], None]:
    """The map on the grid of the source, and the mask of what lies above a threshold."""
    volume = filled_map(work)

    def write() -> None:
        values = volume.on_grid()
        write_nifti(work.folder / "map.nii.gz", values, volume.grid)
        write_nifti(work.folder / "mask.nii.gz", (values > 0.9).astype(np.uint8), volume.grid)

    return write


def prepare_segmentation(work: Work) -> Callable[[], None]:
    """The mask as a DICOM SEG object."""
    volume = filled_map(work)
    stack, series = volume.as_stack(), volume.sample.series
    assert stack is not None
    assert series is not None
    path = work.folder / "seg.dcm"
    return lambda: write_segmentation(path, stack > 0.9, series, "0.9 or more")


# Name of a step → the sources that it is measured on, and what makes it ready.
STEPS: dict[str, tuple[tuple[str, ...], Callable[[Work], Callable[[], None]]]] = {
    "nothing": ((NIFTI,), prepare_nothing),
    "read axial slices": ((NIFTI, DICOM), partial(prepare_reading, axis="axial")),
    "read coronal slices": ((NIFTI, DICOM), partial(prepare_reading, axis="coronal")),
    "model": ((NIFTI,), prepare_model),
    "write map and mask": ((NIFTI, DICOM), prepare_map),
    "write DICOM SEG": ((DICOM,), prepare_segmentation),
}


def measure_here(step: str, work: Work) -> dict[str, float]:
    """Seconds of a step, those that the processor worked for it, and the peak of this process."""
    run = STEPS[step][1](work)
    started, worked = time.perf_counter(), time.process_time()
    run()
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "peak_gb": peak_bytes(torch.device("cpu")) / 1e9,
    }


def measure_apart(step: str, work: Work) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.volumes", "--step", step]
    for name, path in (("source", work.source), ("config", work.config), ("folder", work.folder)):
        command += [f"--{name}", str(path)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def measure_all(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """A row for each step and source: the median of the seconds, the highest peak."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_sources(folder, options.slices, options.side)
        pairs = [(step, source) for step, (sources, _) in STEPS.items() for source in sources]
        for step, source in tqdm(pairs, "measuring", leave=False, delay=2):
            work = Work(folder / source, options.config, folder)
            found = [measure_apart(step, work) for _ in range(options.rounds)]
            yield {
                "step": step,
                "source": source,
                "seconds": round(median(each["seconds"] for each in found), 3),
                "cpu_seconds": round(median(each["cpu_seconds"] for each in found), 3),
                "peak_gb": round(max(each["peak_gb"] for each in found), 3),
            }


def machine() -> str:
    """Processor, threads and versions."""
    cores, threads = os.cpu_count(), torch.get_num_threads()
    python = platform.python_version()
    return (
        f"{processor()}, {cores} cores, {threads} threads, Python {python}, "
        f"PyTorch {torch.__version__}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200, help="of the volume")
    parser.add_argument("--side", type=int, default=512, help="their pixels along each side")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured")
    parser.add_argument(
        "--config", type=Path, default=Path("configs/demo_volumes.ini"), help="of the model"
    )
    parser.add_argument("--note", default="", help="put into the file as it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--step", choices=STEPS, help="this step alone, in this very process")
    parser.add_argument("--source", type=Path, help="of --step: the volume")
    parser.add_argument("--folder", type=Path, help="of --step: where to write")
    options = parser.parse_args(arguments)
    if options.step:
        work = Work(options.source, options.config, options.folder)
        print(json.dumps(measure_here(options.step, work)))
        return
    rows = []
    print("| step | source | seconds | processor, seconds | peak memory, GB |")
    print("|---|---|---|---|---|")
    for row in measure_all(options):
        rows.append(row)
        line = "| {step} | {source} | {seconds:.3g} | {cpu_seconds:.3g} | {peak_gb:.2f} |"
        print(line.format(**row), flush=True)
    if options.json:
        about = {
            "command": shlex.join(
                ["python", "-m", "benchmarks.volumes", *(arguments or sys.argv[1:])]
            ),
            "machine": machine(),
            "note": options.note,
            "volume": f"{options.slices} slices of {options.side} x {options.side}",
            "rows": rows,
        }
        options.json.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    run_script(main)
