"""One training step or test step, measured part by part: seconds, memory, operations."""

import gc
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.as_published import make_as_published
from benchmarks.measurement import Measurement, Stopwatch, processor
from datasets.dataset import AnomalyDataset, TrainDataset
from datasets.folders.find import find_normal_images, find_split
from datasets.phantom.write import write_phantom_dataset
from datasets.transforms import normalise
from engine.build import build_autoencoder, build_criteria
from engine.evaluate.scorer import Reductions, Scorer
from engine.runtime.fabric import create_fabric
from engine.runtime.process import computes_in_bf16, place
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from models.onednn import OneDnnLinear
from utils.config.criteria import CriterionSpec
from utils.config.schema import SectionConfig, TrainingConfig

# Reading is measured in one process; in a run, loaders do it alongside.
DATA = "data (one loader)"
PARTS = (DATA, "encoder", "Q-Former", "decoder", "perceptual", "backward", "optimizer", "rest")
DATA_PIXELS = 240  # BMAD's brain images
# Large enough for the device to be at its best.
MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}
# Steps before the measured ones: a GPU chooses kernels, a CPU fetches memory from the system.
WARM_UP = {"cpu": 2, "cuda": 4}
CLEAR_REFS = Path("/proc/self/clear_refs")


def _linear_flops(inputs: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of (…, in) · (out, in)ᵀ, from shapes."""
    return 2 * prod(inputs) * weight[0]


NOT_COUNTED_BY_TORCH = {torch.ops.mkldnn._linear_pointwise: _linear_flops}


@dataclass(frozen=True)
class Setup:
    """What a step needs.

    Attributes:
        fabric: Device and precision.
        model: The autoencoder.
        criterion: The loss in training, the test criterion in testing.
        images: (B, 3, H, W) uint8 noise on the device.
        watch: Hooked to the parts of model and criterion.
        as_published: Whether both were changed by :func:`make_as_published`.
    """

    fabric: Fabric
    model: QFormerAutoencoder
    criterion: WeightedCriteria
    images: Tensor
    watch: Stopwatch
    as_published: bool


def prepare(settings: SectionConfig, batch: int, *, as_published: bool) -> Setup:
    """Build model and criterion of a section as training and testing do."""
    fabric = create_fabric(settings)
    torch.manual_seed(settings.seed)
    kind = "TRAIN" if isinstance(settings, TrainingConfig) else "VAL"
    model = build_autoencoder(settings)
    (criterion,) = build_criteria(settings, [CriterionSpec.of(settings, kind)])
    if as_published:
        torch.backends.cudnn.allow_tf32 = True  # PyTorch's default, which is left alone there
        make_as_published(settings, model, [criterion])
    else:
        model.drop_unused_blocks()
    place(fabric, model)
    place(fabric, criterion)
    watch = Stopwatch(fabric.device)
    for module, part in ((model.junction, "Q-Former"), (model.decoder, "decoder")):
        watch.watch(module, part)
    for encoder in model.encoders:
        for module in (encoder, encoder.additional_block, encoder.final_projection):
            watch.watch(module, "encoder")
    for each in criterion.criteria:
        watch.watch(each, "perceptual")
    shape = (batch, 3, settings.resize, settings.resize)
    images = torch.randint(256, shape, dtype=torch.uint8).to(fabric.device)
    return Setup(fabric, model, criterion, images, watch, as_published)


def train_step(setup: Setup) -> Callable[[], None]:
    """The body of the training loop, at a learning rate of 0 so that all steps are alike."""
    fused = setup.fabric.device.type == "cuda" and not setup.as_published
    adam = torch.optim.Adam(setup.model.trained_parameters(), lr=0.0, fused=fused)
    forward, optimizer = setup.fabric.setup(setup.model.train(), adam)

    def step() -> None:
        images = normalise(setup.images)
        reconstructions = forward(images)
        with setup.fabric.autocast():
            loss = setup.criterion.loss(images, reconstructions)
        setup.watch.start("backward")
        setup.fabric.backward(loss)
        setup.watch.stop("backward")
        setup.watch.start("optimizer")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        setup.watch.stop("optimizer")

    return step


def test_step(setup: Setup, reductions: Reductions) -> Callable[[], None]:
    """Scores a batch as testing does, maps copied to the CPU for the metrics."""
    # The counter of operations takes no parameters with gradients in inference mode.
    model = setup.model.requires_grad_(False)
    scorer = Scorer(setup.fabric, (model,), setup.criterion, reductions)
    names = [f"image {index}" for index in range(len(setup.images))]
    return lambda: scorer.score(setup.images, names).anomaly_maps.cpu().numpy().sum()


def measure(
    settings: SectionConfig, *, batch: int, steps: int, as_published: bool, data: bool
) -> Measurement:
    """Measure the training step or the test step of a section in this process."""
    gc.collect()
    setup = prepare(settings, batch, as_published=as_published)
    training = isinstance(settings, TrainingConfig)
    step = train_step(setup) if training else test_step(setup, Reductions.of(settings))
    device, watch = setup.fabric.device, setup.watch
    for _ in range(WARM_UP.get(device.type, 2)):
        step()
    watch.take()
    reset_peak(device)
    seconds: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(steps):
        started = watch.now()
        step()
        seconds.append(watch.now() - started)
        found = watch.take()
        found["rest"] = seconds[-1] - sum(found.values())
        for name, times in parts.items():
            times += [found[name]] if name in found else []
    peak = peak_bytes(device)
    # Explicit attention, so that counts do not depend on the device's kernels.
    counter = FlopCounterMode(display=False, custom_mapping=NOT_COUNTED_BY_TORCH)
    with counter, sdpa_kernel(SDPBackend.MATH):
        step()
    if data:
        parts[DATA] = data_seconds(settings, batch)
    return Measurement(
        step="train" if training else "test",
        batch=batch,
        machine=describe(setup.fabric),
        seconds=seconds,
        parts=parts,
        peak_bytes=peak,
        flops=counter.get_total_flops(),
        matmul_flops=matmul_flops(setup.fabric, watch),
    )


def data_seconds(settings: SectionConfig, batch: int) -> list[float]:
    """Seconds to read, resize and, in training, augment a batch of PNGs in one process."""
    counts = {"train": batch, "test_ungood": batch, "test_good": 1}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "data")
        write_phantom_dataset(folder, size=DATA_PIXELS, valid_good=0, valid_ungood=0, **counts)
        if isinstance(settings, TrainingConfig):
            split = find_normal_images(folder / "train", key="TRAIN_DATA_PATH")
            augmented = TrainDataset(AnomalyDataset.of(split, settings), settings.seed)
            return [_seconds_of(lambda: [augmented[1, index] for index in range(batch)])]
        split = find_split(folder / "test", key="TEST_DATA_PATH")
        dataset = AnomalyDataset.of(split, settings)
        return [_seconds_of(lambda: [dataset[index] for index in range(batch)])]


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far; where that is impossible, building the model stays in it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR_REFS.exists():
        with suppress(OSError):
            CLEAR_REFS.write_text("5")  # resets the kernel's high-water mark


def peak_bytes(device: torch.device) -> int:
    """Peak since :func:`reset_peak`: allocated on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_flops(fabric: Fabric, watch: Stopwatch) -> float:
    """FLOP/s of a large matrix product in Fabric's precision, with the faster library."""
    device = fabric.device
    dtype = torch.bfloat16 if computes_in_bf16(fabric) else torch.float32
    side = MATMUL_SIDE.get(device.type, 2048)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    onednn = OneDnnLinear(side, side, bias=False, device=device, dtype=dtype).requires_grad_(False)
    fastest = float("inf")
    for product in (lambda: torch.mm(left, right), lambda: onednn(left)):
        for _ in range(10 if device.type == "cuda" else 4):
            started = watch.now()
            product()
            fastest = min(fastest, watch.now() - started)
    return 2 * side**3 / fastest


def describe(fabric: Fabric) -> str:
    """Device, threads and precision."""
    cuda = fabric.device.type == "cuda"
    where = torch.cuda.get_device_name(fabric.device) if cuda else processor()
    threads = "" if cuda else f", {torch.get_num_threads()} threads"
    tf32 = cuda and torch.get_float32_matmul_precision() == "high"
    return f"{where}{threads}, {'bf16' if computes_in_bf16(fabric) else 'tf32' if tf32 else 'fp32'}"
