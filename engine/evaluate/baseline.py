"""Nearest-neighbour baseline: patches by their distance to the closest patch of training images.

It uses the same frozen encoders and PatchCore's memory bank (Roth et al., arXiv 2106.08265), filled
at random, with k = 1. Nothing is trained: any gain over it comes from training.
"""

import hashlib
import json
import logging
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.cache import cache_key, checked_dataset
from datasets.dataset import AnomalyDataset
from datasets.folders.find import find_normal_images
from datasets.folders.slicing import Slicing
from engine.evaluate.evaluate import create_batches
from engine.evaluate.scorer import Scorer
from engine.hub_files import beside_checkpoint, checkpoint_files
from engine.runtime.process import gather
from utils.checkpoints import save_tensors
from utils.config.load import Config, ini_values
from utils.config.rules import of_encoder
from utils.config.schema import TestingConfig
from utils.errors import UserError
from utils.files import file_digest
from utils.weights import read_content

logger = logging.getLogger(__name__)

# What the patches depend on, beside the images, RESIZE and the checkpoint.
_KEYS = ("MODEL_NAME", "MODEL_WEIGHTS", "PATCH_SIZE", "PRECISION", "SEED")
_BASELINE_KEYS = ("BASELINE_SIZE", "BASELINE_HSTATE")


def baseline_for(config: Config, scorer: Scorer) -> tuple[Tensor, ...]:
    """Patches of the training images: those kept beside the checkpoint, or drawn and kept there.

    Returns:
        For each encoder (M, D), on the scorer's device.

    Raises:
        UserError: The training images are not known, or cannot be read.
    """
    settings, training = config.need_testing(), config.training
    if training is None:
        raise UserError(
            f"BASELINE = {settings.baseline}: needs the training images, but {config.file} has no "
            "[TRAINING] section; add one with TRAIN_DATA_PATH, or set BASELINE = none"
        )
    slicing = Slicing.of(settings)
    split = find_normal_images(training.train_data_path, key="TRAIN_DATA_PATH", slicing=slicing)
    split = split.cut(training.max_samples_train, training.seed)
    digest = _digest(settings, AnomalyDataset.of(split, settings))
    path = beside_checkpoint(settings, ".baseline.pth")
    kept = _load(path, digest)
    if kept is None:
        kept = _draw(scorer, checked_dataset(split, settings), settings)
        if scorer.runtime.is_global_zero:
            logger.info(
                "baseline: %d patches of %d training images", len(kept[0]), len(split.samples)
            )
            _store(path, digest, kept)
    return tuple(each.to(scorer.runtime.device) for each in kept)


def _digest(settings: TestingConfig, dataset: AnomalyDataset) -> str:
    values = ini_values(settings)
    keys = {key: values[key] for key in (*_KEYS, *_BASELINE_KEYS)}
    # A checkpoint may contain the encoders' weights.
    weights = [file_digest(each) for each in checkpoint_files(settings)]
    parts = (keys, cache_key(dataset), weights)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _load(path: Path, digest: str) -> list[Tensor] | None:
    """The stored patches; None if there are none, or they are from something else."""
    if not path.is_file():
        return None
    try:
        content = read_content(path)
    except UserError as error:
        logger.warning("%s; the baseline will be rebuilt", error)
        return None
    if content["digest"] == digest:
        return content["patches"]
    logger.info("%s: is from other images, weights or keys; it will be rebuilt", path)
    return None


def _store(path: Path, digest: str, kept: list[Tensor]) -> None:
    try:
        save_tensors(path, {"digest": digest, "patches": kept})
    except UserError as error:  # a shared or read-only checkpoint
        logger.warning("%s; the baseline will be rebuilt next time", error)


def _draw(scorer: Scorer, dataset: AnomalyDataset, settings: TestingConfig) -> list[Tensor]:
    """For each encoder BASELINE_SIZE patches of all images, drawn by SEED; one pass."""
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = []
    for index in range(len(settings.model_name)):
        patches = of_encoder(settings.n_patches, index) ** 2
        order = torch.randperm(len(dataset) * patches, generator=generator)
        drawn.append((order < settings.baseline_size).view(len(dataset), patches))
    kept: list[list[Tensor]] = [[] for _ in drawn]
    batches = create_batches(scorer.runtime, dataset, settings)
    hidden = None if scorer.runtime.is_global_zero else True
    for batch in tqdm(batches, "baseline", unit="batch", leave=False, disable=hidden):
        indices = batch["index"].cpu()
        tokens = scorer.patch_tokens(batch["image"])
        for each, of_image, found in zip(tokens, drawn, kept, strict=True):
            found.append(each.cpu()[of_image[indices]])
    parts = gather(scorer.runtime, [torch.cat(found) for found in kept])
    return [torch.cat(each) for each in zip(*parts, strict=True)]
