"""Models and criteria from a checked config: what they take is numbers, names and weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from models.autoencoder import QFormerAutoencoder
from models.compilation import compile_in_place
from models.criteria import (
    Criterion,
    MultiPatchPerceptual,
    PatchEmbeddingDistance,
    PixelDistance,
    ResNetPerceptual,
    SinglePatchPerceptual,
    WeightedCriteria,
)
from models.decoder import PixelDecoder
from models.encoder import Encoder
from models.onednn import use_onednn
from models.perceptual import PerceptualResNet, PerceptualViT
from models.qformer import QFormer
from utils.checkpoints import holds_encoder, load_model
from utils.config.criteria import RESNETS, SINGLE_PATCH_SIZE, CriterionSpec, looks_at_blocks
from utils.config.rules import of_encoder
from utils.config.schema import SectionConfig, TestingConfig, TrainingConfig
from utils.timm_vits import backbone_geometry
from utils.weights import native_state_dict, read_tensors

_PIXEL_METRICS = {
    "MSE": "L2",
    "MAE": "L1",
    "COSSIM": "cosine",
    "SSIM": "SSIM",
    "MS_SSIM": "MS_SSIM",
}


def build_autoencoder(config: SectionConfig, checkpoint: Path | None = None) -> QFormerAutoencoder:
    """The model, with the frozen encoders' weights and, where given, a checkpoint's.

    Args:
        config: A section.
        checkpoint: Trained parts, or the whole model; then it is the encoders' weights too.

    Raises:
        UserError: Weights or checkpoint cannot be had, or do not fit.
    """
    given: Mapping[str, Tensor] = read_tensors(checkpoint) if checkpoint else {}
    encoders = [_build_encoder(config, index, given) for index in range(len(config.model_name))]
    junction = QFormer(
        num_blocks=config.junction_n_blocks,
        num_queries=config.junction_n_queries,
        dim=config.junction_dim,
        output_dim=config.junction_output_dim,
        num_heads=config.junction_heads,
        mlp_ratio=config.junction_mlp_ratio,
        # A test loads its queries.
        query_std=config.junction_query_std if isinstance(config, TrainingConfig) else 0.0,
    )
    decoder = PixelDecoder(
        input_dim=config.junction_output_dim,
        dim=config.decoder_dim,
        num_patches=config.decoder_n_patches,
        patch_size=config.decoder_patch_size,
        num_registers=config.decoder_n_reg_tokens,
        depth=config.decoder_depth,
        num_heads=config.decoder_num_heads,
        mlp_ratio=config.decoder_mlp_ratio,
        out_channels=config.decoder_out_channels,
    )
    model = QFormerAutoencoder(encoders, junction, decoder)
    if checkpoint:
        load_model(model, given, source=checkpoint)
    use_onednn(model)
    if config.compile:
        compile_in_place([*model.encoders, model.decoder])
    return model


def _build_encoder(config: SectionConfig, index: int, given: Mapping[str, Tensor]) -> Encoder:
    def own(*keys: str) -> tuple[Any, ...] | None:
        """What each key says of this encoder; None if the first one is empty."""
        lists = [getattr(config, key) for key in keys]
        return tuple(of_encoder(each, index) for each in lists) if lists[0] else None

    name = config.model_name[index]
    geometry = backbone_geometry(name)
    compared: tuple[int, ...] = ()
    if isinstance(config, TestingConfig) and config.baseline != "none":
        compared = config.baseline_hstate
    state_dict = None
    if not holds_encoder(given, index):
        state_dict = native_state_dict(
            name,
            of_encoder(config.model_weights, index),
            key="MODEL_WEIGHTS",
            cache_dir=of_encoder(config.cache_dir, index),
            seed=config.seed,
        )
    return Encoder(
        name,
        img_size=config.resize,
        patch_size=of_encoder(config.patch_size, index),
        block_indices=geometry.block_indices(config.use_hidden_state),
        compared_blocks=geometry.block_indices(compared),
        state_dict=state_dict,
        additional_block=own(
            "additional_block_dim", "additional_block_num_heads", "additional_block_mlp_ratio"
        ),
        projection=own("final_proj_in_features", "final_proj_out_features"),
    )


def build_criteria(config: SectionConfig, specs: Sequence[CriterionSpec]) -> list[WeightedCriteria]:
    """One weighted criterion for each spec; all of them share one perceptual trunk.

    Raises:
        UserError: The perceptual network's weights cannot be had, or do not fit.
    """
    network = _perceptual_vit(config, specs)
    resnets = {
        name: PerceptualResNet(tag, _perceptual_weights(config, tag))
        for name, tag in RESNETS.items()
        if any(name in spec.names for spec in specs)
    }

    def build(name: str, spec: CriterionSpec) -> Criterion:
        if name in resnets:
            return ResNetPerceptual(resnets[name], spec.hidden_states, spec.metric)
        if name in _PIXEL_METRICS:
            return PixelDistance(_PIXEL_METRICS[name])
        assert network is not None
        if name == "EMBED_MSE":
            return PatchEmbeddingDistance(network, SINGLE_PATCH_SIZE)
        multi = name == "PERCEPTUAL_VIT_mae_multi"
        return (MultiPatchPerceptual if multi else SinglePatchPerceptual)(
            network,
            patch_sizes=spec.patch_sizes if multi else (SINGLE_PATCH_SIZE,),
            block_indices=_perceptual_blocks(config, spec),
            metric=spec.metric,
        )

    return [
        WeightedCriteria([build(name, spec) for name in spec.names], spec.weights) for spec in specs
    ]


def _perceptual_vit(config: SectionConfig, specs: Sequence[CriterionSpec]) -> PerceptualViT | None:
    sizes = [size for spec in specs for size in spec.vit_patch_sizes]
    if not sizes:
        return None
    name = config.perceptual_model_name
    looking = [spec for spec in specs if looks_at_blocks(spec.names)]
    network = PerceptualViT(
        name,
        img_size=config.resize,
        patch_sizes=sizes,
        deepest_block=max((max(_perceptual_blocks(config, spec)) for spec in looking), default=-1),
        state_dict=_perceptual_weights(config, name),
    )
    use_onednn(network)
    if config.compile:
        compile_in_place([network])
    return network


def _perceptual_blocks(config: SectionConfig, spec: CriterionSpec) -> list[int]:
    return backbone_geometry(config.perceptual_model_name).block_indices(spec.hidden_states)


def _perceptual_weights(config: SectionConfig, name: str) -> dict[str, Tensor]:
    return native_state_dict(
        name,
        config.perceptual_weights,
        key="PERCEPTUAL_WEIGHTS",
        cache_dir=config.cache_dir[0],
        seed=config.seed,
    )
