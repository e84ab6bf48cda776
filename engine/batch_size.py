"""BATCH_SIZE_TRAIN = auto: the largest batch whose training step fits into the GPU's memory."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from datasets.transforms import normalise
from engine.runtime import gather
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Room for fragments, and for what several processes exchange.
_SHARE_OF_MEMORY = 0.92
# From here on, batches are multiples of it, as tensor cores like them.
_STEP = 8


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """The largest batch that fits, at most ``most``, by doubling and bisection; 0 if none does.

    From 8 on, a multiple of 8, unless it is ``most`` itself.
    """
    low, high = 0, 1
    while fits(high):
        low = high
        if high == most:
            return most
        high = min(2 * high, most)
    step = _STEP if low >= _STEP else 1
    while high - low > step:
        middle = (low + high) // 2 // step * step
        middle = max(middle, low + step)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def find_batch_size(
    fabric: Fabric,
    model: QFormerAutoencoder,
    criterion: WeightedCriteria,
    *,
    img_size: int,
    num_images: int,
) -> int:
    """The largest batch of all processes together; weights and random numbers stay as they are.

    Args:
        fabric: Device, precision and processes.
        model: The autoencoder on the device.
        criterion: The training loss on the device.
        img_size: Pixels along each side of an image.
        num_images: Training images of all processes; no batch is larger.

    Raises:
        UserError: The device is no CUDA device, or one image is too much for it.
    """
    if fabric.device.type != "cuda":
        raise UserError(
            f"BATCH_SIZE_TRAIN = auto: measures a GPU's memory, but the device is {fabric.device}; "
            "give a number"
        )

    def fits(batch: int) -> bool:
        try:
            _train_step(fabric, model, criterion, batch, img_size)
        except torch.cuda.OutOfMemoryError:
            return False
        finally:
            model.zero_grad(set_to_none=True)
            gc.collect()
            torch.cuda.empty_cache()
        return True

    torch.cuda.set_per_process_memory_fraction(_SHARE_OF_MEMORY, fabric.device)
    # Eager code needs at least the memory of compiled code, and no compilation for every trial.
    with torch.random.fork_rng(), torch.compiler.set_stance("force_eager"):
        found = largest_fitting(fits, max(1, num_images // fabric.world_size))
    torch.cuda.set_per_process_memory_fraction(1.0, fabric.device)
    found = min(gather(fabric, found)) * fabric.world_size
    if not found:
        raise UserError(
            "BATCH_SIZE_TRAIN = auto: a training step of one image does not fit into the memory "
            f"of {torch.cuda.get_device_name(fabric.device)}; free it, or lower RESIZE"
        )
    logger.info("BATCH_SIZE_TRAIN = auto: %d", found)
    return found


def _train_step(
    fabric: Fabric, model: QFormerAutoencoder, criterion: WeightedCriteria, batch: int, size: int
) -> None:
    """What a step of training keeps in memory, the optimizer's state included."""
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=0.0)
    images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=fabric.device)
    normalised = normalise(images)
    with fabric.autocast():
        loss = criterion.loss(normalised, model.train()(normalised))
    loss.backward()
    optimizer.step()
