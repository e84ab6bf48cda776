"""Scoring every image of a split; memory does not grow with the number of images' pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from datasets.anomaly_dataset import AnomalyDataset, Item, test_loader
from datasets.transforms import normalise
from engine.collectors import Collector
from engine.runtime import gather, shard
from engine.scoring import image_scores, pixel_scores
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria, resize_maps
from utils.errors import UserError
from utils.schema import SectionConfig, TestingConfig


@dataclass(frozen=True)
class Reductions:
    """How maps become scores: (REDUCTION, MULTI_HSTATE_REDUCTION) for images and for pixels."""

    image: tuple[str, str]
    pixel: tuple[str, str]

    @classmethod
    def of(cls, config: SectionConfig) -> Reductions:
        """Read a section; IMAGE_* and PIXEL_* keys fall back to the plain ones."""
        plain = (config.reduction, config.multi_hstate_reduction)
        if not isinstance(config, TestingConfig):
            return cls(plain, plain)
        image = (config.image_reduction, config.image_multi_hstate_reduction)
        pixel = (config.pixel_reduction, config.pixel_multi_hstate_reduction)
        return cls(
            (image[0] or plain[0], image[1] or plain[1]),
            (pixel[0] or plain[0], pixel[1] or plain[1]),
        )


@dataclass(frozen=True)
class ScoredBatch:
    """What scoring gives for a batch.

    Attributes:
        scores: (B,), higher is more anomalous.
        anomaly_maps: (B, H, W).
        images: (B, 3, H, W), normalised.
        reconstructions: (B, 3, H, W), normalised.
    """

    scores: Tensor
    anomaly_maps: Tensor
    images: Tensor
    reconstructions: Tensor


@dataclass(frozen=True)
class Scorer:
    """Model, criterion and reductions: images in, scores and maps out.

    Everything that scores goes through :meth:`score`, which sets eval mode itself. Whoever trains
    the same model sets training mode at the start of each epoch.

    Attributes:
        fabric: Device and precision.
        model: The autoencoder on its device, without Fabric's wrapper: under DDP a forward pass
            of the wrapper waits for the other processes, which may have fewer images.
        criterion: The test criterion.
        reductions: How maps become scores.
        static_batch: Images that every batch is filled up to; None leaves it as it comes. Compiled
            code is made for one size.
    """

    fabric: Fabric
    model: QFormerAutoencoder
    criterion: WeightedCriteria
    reductions: Reductions
    static_batch: int | None = None

    @torch.inference_mode()
    def score(self, images: Tensor, names: Sequence[str]) -> ScoredBatch:
        """Score a batch.

        Args:
            images: (B, 3, H, W) uint8 on the device.
            names: What to call each image in an error.

        Raises:
            UserError: A score or a map is not finite; names the image.
        """
        count = len(images)
        if self.static_batch is not None and count < self.static_batch:
            filling = images[-1:].expand(self.static_batch - count, -1, -1, -1)
            images = torch.cat([images, filling])
        self.model.eval()
        normalised = normalise(images)
        with self.fabric.autocast():
            reconstructions = self.model(normalised)
        # A perceptual network in bf16 would change scores by two percent (docs/performance.md).
        maps = self.criterion(normalised, reconstructions.float())
        scores = image_scores(maps, *self.reductions.image)
        anomaly_maps = pixel_scores(maps, *self.reductions.pixel)
        anomaly_maps = resize_maps(anomaly_maps[None, :, None], images.shape[-2:])[0, :, 0]
        scores, anomaly_maps = scores[:count], anomaly_maps[:count]
        finite = anomaly_maps.isfinite().all(dim=(1, 2)) & scores.isfinite()
        if not finite.all():
            bad = [name for name, good in zip(names, finite.tolist(), strict=True) if not good]
            raise UserError(
                f"{bad[0]}: its anomaly score is not finite; check the checkpoint, and try "
                "PRECISION = fp32"
            )
        return ScoredBatch(
            scores, anomaly_maps, normalised[:count], reconstructions[:count].float()
        )


def create_batches(
    fabric: Fabric, dataset: AnomalyDataset, config: SectionConfig, *, persistent: bool = False
) -> Any:
    """This process's share of a split, in batches on the device, for :func:`evaluate`.

    Args:
        fabric: Device and processes.
        dataset: The split.
        config: Says how many images a batch has, and how many processes read.
        persistent: Whether those processes stay, for splits that are scored more than once.
    """
    loader = test_loader(
        dataset,
        shard(len(dataset), fabric),
        batch_size=config.batch_size_test,
        num_workers=config.num_workers,
        pin=fabric.device.type == "cuda",
        persistent=persistent,
    )
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def evaluate(
    scorer: Scorer,
    dataset: AnomalyDataset,
    batches: Any,
    *,
    description: str,
    collectors: Sequence[Collector] = (),
) -> list[float]:
    """Score every sample of a split once, whatever the number of processes.

    Args:
        scorer: What scores.
        dataset: The split.
        batches: What :func:`create_batches` gives for it.
        description: What the progress bar says.
        collectors: Filled with all maps, those of other processes included.

    Returns:
        One score a sample, in the split's order.

    Raises:
        UserError: A file cannot be read, or a score is not finite.
    """
    fabric = scorer.fabric
    scores: dict[int, float] = {}
    with tqdm(
        total=len(shard(len(dataset), fabric)),
        desc=description,
        unit="img",
        disable=not fabric.is_global_zero,
        leave=False,
    ) as bar:
        for batch in batches:
            scores |= _score_batch(scorer, dataset, batch, collectors)
            bar.update(len(batch["index"]))
    merged: dict[int, float] = {}
    for part in gather(fabric, scores):
        merged |= part
    for collector in collectors:
        for rank, other in enumerate(gather(fabric, collector)):
            if rank != fabric.global_rank:
                collector.merge(other)
    return [merged[index] for index in range(len(dataset))]


def _score_batch(
    scorer: Scorer, dataset: AnomalyDataset, batch: Item, collectors: Sequence[Collector]
) -> dict[int, float]:
    indices = batch["index"].tolist()
    names = [dataset.split.samples[index].name for index in indices]
    scored = scorer.score(batch["image"], names)
    if collectors:
        anomaly_maps, masks = scored.anomaly_maps.cpu().numpy(), batch["mask"].cpu().numpy()
        for collector in collectors:
            collector.update(anomaly_maps, masks, indices)
    return dict(zip(indices, scored.scores.tolist(), strict=True))
