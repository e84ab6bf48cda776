"""onnxruntime beside PyTorch: seconds from pictures to scores and maps, on a CPU, in turn.

    python -m benchmarks.onnx --config configs/small.ini --threads 2

Run from the repository's root. Weights are random and pictures are noise. Both sides resize, take
the same number of threads, and are measured alternately, so that a machine that slows down slows
both. Seconds of the processor tell more than those of the clock where other work runs as well.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from datasets.transforms import resize_image
from engine.build import build_autoencoder
from engine.evaluate.scorer import Scorer, create_scorer
from engine.export.onnx_file import as_onnx
from utils.config.ini import config_parser
from utils.config.load import load_config
from utils.errors import run_script

Run = Callable[[NDArray[np.uint8]], object]
Seconds = dict[str, list[tuple[float, float]]]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = config_parser(__doc__)
    parser.add_argument("--batch", type=int, default=1, help="pictures at once")
    parser.add_argument("--side", type=int, default=240, help="pixels along a picture's sides")
    parser.add_argument("--threads", type=int, default=2, help="of either side")
    parser.add_argument(
        "--rounds", type=int, default=9, help="measured ones, after one that is not"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single time here")
    return parser.parse_args(arguments)


def random_scorer(options: argparse.Namespace, folder: Path) -> tuple[Scorer, int]:
    """A scorer with random weights on the CPU in fp32, and the size that it sees."""
    checkpoint = folder / "random.pth"
    random = ["MODEL_WEIGHTS=random", "PERCEPTUAL_WEIGHTS=random", f"CHECKPOINT_PATH={checkpoint}"]
    on_cpu = ["DEVICE=cpu", "PRECISION=fp32", "COMPILE=0"]
    config = load_config(options.config, [*options.set, *random, *on_cpu])
    settings = config.need_testing()
    torch.save(build_autoencoder(settings).trained_state_dict(), checkpoint)
    return create_scorer(settings, file=config.file), settings.resize


def session_of(scorer: Scorer, size: int, threads: int, file: Path) -> onnxruntime.InferenceSession:
    """The same model in onnxruntime."""
    as_onnx(scorer, size, "fp32").save(file)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    # Threads that wait busily would slow the other side's turn.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])


def measure(options: argparse.Namespace) -> Seconds:
    """Name of a runtime → (seconds of the clock, seconds of the processor) of each round."""
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        scorer, size = random_scorer(options, Path(folder))
        session = session_of(scorer, size, options.threads, Path(folder, "model.onnx"))

    def with_pytorch(pictures: NDArray[np.uint8]) -> object:
        seen = torch.stack([resize_image(each, size) for each in pictures])
        return scorer.score(seen, ["noise"] * len(pictures))

    def with_onnxruntime(pictures: NDArray[np.uint8]) -> object:
        return session.run(None, {"images": pictures.transpose(0, 3, 1, 2)})

    shape = (options.batch, options.side, options.side, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    runs: dict[str, Run] = {"PyTorch": with_pytorch, "onnxruntime": with_onnxruntime}
    seconds: Seconds = {name: [] for name in runs}
    for _ in range(1 + options.rounds):
        for name, run in runs.items():
            started, used = time.perf_counter(), time.process_time()
            run(pictures)
            seconds[name].append((time.perf_counter() - started, time.process_time() - used))
    return {name: times[1:] for name, times in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(arguments)
    seconds = measure(options)
    print("| config | batch | threads | seconds of | PyTorch | onnxruntime | ratio |")
    print("|---|---|---|---|---|---|---|")
    for position, clock in enumerate(("the clock", "the processor")):
        pytorch, onnx = (median(each[position] for each in times) for times in seconds.values())
        cells = f"{clock} | {pytorch:.3g} | {onnx:.3g} | {onnx / pytorch:.2f}"
        print(f"| `{options.config.name}` | {options.batch} | {options.threads} | {cells} |")
    if options.json:
        versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
        given = {key: getattr(options, key) for key in ("batch", "side", "threads")}
        content = {"config": options.config.name, **given, **versions, "seconds": seconds}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_script(main)
