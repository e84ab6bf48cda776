"""Images to anomaly scores and maps, one batch at a time: model, criterion, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datasets.transforms import normalise
from engine.build import build_autoencoder, build_criteria
from engine.evaluate.reductions import image_scores, pixel_scores
from engine.hub_files import checkpoint_files
from engine.runtime.process import Runtime, create_runtime, place
from engine.snapshot import check_snapshot
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria, resize_maps
from models.encoder import HiddenStates
from models.neighbours import neighbour_maps
from utils.config.criteria import CriterionSpec
from utils.config.schema import SectionConfig, TestingConfig
from utils.errors import UserError, each_told


@dataclass(frozen=True)
class Scores:
    """The scores and maps of a batch."""

    scores: Tensor  # (B,), higher is more anomalous
    anomaly_maps: Tensor  # (B, H, W)


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

    def apply(self, maps: Tensor, size: Sequence[int]) -> Scores:
        """Maps (R, B, 1, h, w) as scores, and as anomaly maps of a size."""
        anomaly_maps = pixel_scores(maps, *self.pixel)
        anomaly_maps = resize_maps(anomaly_maps[None, :, None], size)[0, :, 0]
        return Scores(image_scores(maps, *self.image), anomaly_maps)


@dataclass(frozen=True)
class ScoredBatch(Scores):
    """What scoring gives for a batch."""

    reconstructions: Tensor  # (B, 3, H, W), normalised
    baseline: Scores | None = None  # by the baseline, for the same images; None without one


@dataclass(frozen=True)
class Scorer:
    """Model, criterion and reductions: images in, scores and maps out.

    Everything that scores goes through :meth:`score`, which sets eval mode itself. Whoever trains
    the same model sets training mode at the start of each epoch.
    """

    runtime: Runtime  # device and precision
    # The autoencoder on its device, without Fabric's wrapper: under DDP a forward pass of the
    # wrapper waits for the other processes, which may have fewer images. Those of an ensemble share
    # the first one's frozen encoders.
    models: tuple[QFormerAutoencoder, ...]
    criterion: WeightedCriteria  # the test criterion
    reductions: Reductions  # how maps become scores
    # Images that every batch is filled up to; None leaves it as it comes. Compiled code is made for
    # one size.
    static_batch: int | None = None
    # For each encoder (M, D) patches of normal images, which images are compared with besides; None
    # for none. See :mod:`engine.evaluate.baseline`.
    baseline: tuple[Tensor, ...] | None = None
    # What each model's maps are multiplied by before they are added.
    weights: tuple[float, ...] = (1.0,)

    @property
    def model(self) -> QFormerAutoencoder:
        """The model, the first one of an ensemble."""
        return self.models[0]

    @torch.inference_mode()
    def score(self, images: Tensor, names: Sequence[str]) -> ScoredBatch:
        """Score a batch.

        Args:
            images: (B, 3, H, W) uint8, on any device.
            names: What to call each image in an error.

        Raises:
            UserError: A score or a map is not finite; names the image.
        """
        count, size = len(images), images.shape[-2:]
        normalised, states = self._encode(images)
        with self.runtime.autocast():
            reconstructions = [model.reconstruct(states).float() for model in self.models]
            of_models = self.criterion.compare(normalised, reconstructions)
        weighted = zip(self.weights, of_models, strict=True)
        maps = torch.stack([weight * each for weight, each in weighted]).sum(dim=0)
        scored, baseline = self.reductions.apply(maps[:, :count], size), None
        if self.baseline is not None:
            tokens = [each[:count] for each in self.model.patch_tokens(states)]
            maps = neighbour_maps(tokens, self.baseline, size)
            baseline = self.reductions.apply(maps, size)
        finite = scored.anomaly_maps.isfinite().all(dim=(1, 2)) & scored.scores.isfinite()
        if not finite.all():
            bad = [name for name, good in zip(names, finite.tolist(), strict=True) if not good]
            raise UserError(
                f"{bad[0]}: its anomaly score is not finite; check the checkpoint, and try "
                "PRECISION = fp32"
            )
        return ScoredBatch(
            scored.scores,
            scored.anomaly_maps,
            torch.stack(reconstructions).mean(dim=0)[:count],
            baseline,
        )

    @torch.inference_mode()
    def patch_tokens(self, images: Tensor) -> list[Tensor]:
        """For each encoder the patches of (B, 3, H, W) uint8 images, (B, patches, D)."""
        _, states = self._encode(images)
        return [each[: len(images)] for each in self.model.patch_tokens(states)]

    def _encode(self, images: Tensor) -> tuple[Tensor, list[HiddenStates]]:
        """Images filled up and normalised, and the outputs of the frozen encoders."""
        images = images.to(self.runtime.device)
        if self.static_batch is not None and len(images) < self.static_batch:
            filling = images[-1:].expand(self.static_batch - len(images), -1, -1, -1)
            images = torch.cat([images, filling])
        for model in self.models:
            model.eval()
        normalised = normalise(images)
        with self.runtime.autocast():
            return normalised, self.model.hidden_states(normalised)


def create_scorer(config: TestingConfig, *, file: str) -> Scorer:
    """Model and test criterion of a config, on the device.

    Raises:
        UserError: Config, checkpoint or weights are not as they should be.
    """
    checkpoints = checkpoint_files(config)
    for checkpoint in checkpoints:
        if checkpoint.is_dir():
            raise UserError(f"CHECKPOINT_PATH: {checkpoint} is a folder; set it to a file in it")
        if not checkpoint.is_file():
            raise UserError(
                f"CHECKPOINT_PATH: {checkpoint}: no such file; train first with "
                f"run_training.py --config {file}, or put a released checkpoint there"
            )
        check_snapshot(config, checkpoint, file=file, section="TESTING")
    runtime = create_runtime(config)
    models, (criterion,) = each_told(
        partial(_build_models, config, checkpoints),
        partial(build_criteria, config, [CriterionSpec.of(config, "VAL")]),
    )
    for module in models:
        place(runtime, module)
    place(runtime, criterion)
    return Scorer(
        runtime,
        models,
        criterion,
        Reductions.of(config),
        static_batch=config.batch_size_test if config.compile else None,
        weights=(1 / len(models),) * len(models),
    )


def _build_models(
    config: TestingConfig, checkpoints: Sequence[Path]
) -> tuple[QFormerAutoencoder, ...]:
    """A model for each checkpoint; the frozen encoders are in memory once."""
    models: list[QFormerAutoencoder] = []
    for checkpoint in checkpoints:
        model = build_autoencoder(config, checkpoint)
        model.drop_unused_blocks()
        if models and not model.share_encoders(models[0]):
            raise UserError(
                f"CHECKPOINT_PATH: {checkpoint} has a different frozen encoder from "
                f"{checkpoints[0]}; all members of an ensemble must share it"
            )
        models.append(model)
    return tuple(models)
