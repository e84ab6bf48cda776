"""What a config's keys must be to one another, checked by arithmetic before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from utils.config.schema import SectionConfig

Contradiction = tuple[str, str]
Value = TypeVar("Value")

_PER_ENCODER = (
    "patch_size",
    "n_patches",
    "n_reg_tokens",
    "final_proj_in_features",
    "final_proj_out_features",
    "additional_block_dim",
    "additional_block_num_heads",
    "additional_block_mlp_ratio",
    "cache_dir",
    "model_weights",
)
_RESNET_METRICS = ("L1tot", "content+style")


def contradictions(config: SectionConfig, kinds: Sequence[str]) -> list[Contradiction]:
    """Pairs of an INI key and one line that says what it contradicts and what would do.

    Args:
        config: A section.
        kinds: The section's criteria, ``TRAIN`` and ``VAL``.
    """
    checks = [
        _list_lengths(config),
        _final_projection(config),
        _additional_block(config),
        _encoder_geometry(config),
        _junction_heads(config),
        _junction_queries(config),
        _decoder(config),
        _decoder_width(config),
        _downsampling(config),
    ]
    for kind in kinds:
        checks += [_weights(config, kind), _patch_sizes(config, kind), _metric(config, kind)]
    return [found for check in checks for found in check]


def _list_lengths(config: SectionConfig) -> Iterator[Contradiction]:
    encoders = len(config.model_name)
    for name in _PER_ENCODER:
        length = len(getattr(config, name))
        allowed = {1, encoders}
        if name.startswith(("final_proj", "additional_block")):
            allowed.add(0)
        if length not in allowed:
            text = f"found {length} values; give {encoders}, one for each MODEL_NAME"
            yield name.upper(), text + (", or one for all" if encoders > 1 else "")


def of_encoder(values: Sequence[Value], index: int) -> Value:
    """The value of one encoder, from a list that may hold one for all."""
    return values[index] if len(values) > 1 else values[0]


def _of_each(values: Sequence[Value], config: SectionConfig) -> Sequence[Value]:
    return [*values] * len(config.model_name) if len(values) == 1 else values


def _final_projection(config: SectionConfig) -> Iterator[Contradiction]:
    yield from _both_or_none(config, ("final_proj_in_features", "final_proj_out_features"))
    for width in config.final_proj_out_features:
        if width != config.junction_dim:
            text = f"found {width}; must be JUNCTION_DIM = {config.junction_dim}"
            yield "FINAL_PROJ_OUT_FEATURES", text


def _additional_block(config: SectionConfig) -> Iterator[Contradiction]:
    names = ("additional_block_dim", "additional_block_num_heads", "additional_block_mlp_ratio")
    yield from _both_or_none(config, names)
    widths = _of_each(config.additional_block_dim, config)
    blocks = zip(widths, _of_each(config.additional_block_num_heads, config), strict=False)
    for width, heads in blocks:
        if width % heads:
            yield "ADDITIONAL_BLOCK_NUM_HEADS", f"{heads} heads do not divide the width {width}"


def _both_or_none(config: SectionConfig, names: Sequence[str]) -> Iterator[Contradiction]:
    filled = [name.upper() for name in names if getattr(config, name)]
    for name in names if filled else ():
        if not getattr(config, name):
            yield name.upper(), f"is empty while {filled[0]} is not; fill all of these or none"


def _encoder_geometry(config: SectionConfig) -> Iterator[Contradiction]:
    patches_of, size_of = (_of_each(each, config) for each in (config.n_patches, config.patch_size))
    sizes = zip(config.model_name, patches_of, size_of, strict=False)
    for model, patches, size in sizes:
        if patches * size != config.resize:
            text = (
                f"{patches} patches of {size} make {patches * size} pixels for {model}; "
                f"N_PATCHES · PATCH_SIZE must be RESIZE = {config.resize}"
            )
            yield "N_PATCHES", text


def _junction_heads(config: SectionConfig) -> Iterator[Contradiction]:
    if config.junction_dim % config.junction_heads:
        text = f"{config.junction_heads} heads do not divide JUNCTION_DIM = {config.junction_dim}"
        yield "JUNCTION_HEADS", text


def _junction_queries(config: SectionConfig) -> Iterator[Contradiction]:
    needed = config.decoder_n_patches**2
    if config.junction_n_queries != needed:
        text = f"found {config.junction_n_queries}; must be DECODER_N_PATCHES² = {needed}"
        yield "JUNCTION_N_QUERIES", text


def _decoder(config: SectionConfig) -> Iterator[Contradiction]:
    pixels = config.decoder_n_patches * config.decoder_patch_size
    if pixels != config.resize:
        text = (
            f"{config.decoder_n_patches} patches of {config.decoder_patch_size} make {pixels} "
            f"pixels; DECODER_N_PATCHES · DECODER_PATCH_SIZE must be RESIZE = {config.resize}"
        )
        yield "DECODER_N_PATCHES", text


def _decoder_width(config: SectionConfig) -> Iterator[Contradiction]:
    if config.decoder_dim % 4:
        text = f"found {config.decoder_dim}; the sin-cos position embedding needs a multiple of 4"
        yield "DECODER_DIM", text
    if config.decoder_dim % config.decoder_num_heads:
        text = f"{config.decoder_num_heads} heads do not divide DECODER_DIM = {config.decoder_dim}"
        yield "DECODER_NUM_HEADS", text


def _weights(config: SectionConfig, kind: str) -> Iterator[Contradiction]:
    names = getattr(config, f"criterion_{kind.lower()}")
    weights = getattr(config, f"criterion_{kind.lower()}_weights")
    if len(weights) != len(names):
        text = f"found {len(weights)} weights; give {len(names)}, one for each CRITERION_{kind}"
        yield f"CRITERION_{kind}_WEIGHTS", text
    if not any(weights):
        yield f"CRITERION_{kind}_WEIGHTS", "all weights are 0; give one above 0"


def _patch_sizes(config: SectionConfig, kind: str) -> Iterator[Contradiction]:
    names = getattr(config, f"criterion_{kind.lower()}")
    patch_sizes = getattr(config, f"perceptual_patch_size_{kind.lower()}")
    for size in patch_sizes if "PERCEPTUAL_VIT_mae_multi" in names else ():
        if config.resize % size:
            text = f"patch size {size} does not divide RESIZE = {config.resize}"
            yield f"PERCEPTUAL_PATCH_SIZE_{kind}", text
    fixed = sorted({"PERCEPTUAL_VIT_mae", "EMBED_MSE"} & set(names))
    if fixed and config.resize % 16:
        text = f"{fixed[0]} uses patches of 16, which do not divide RESIZE = {config.resize}"
        yield f"CRITERION_{kind}", text
    if "MS_SSIM" in names and config.resize <= 160:
        text = f"MS_SSIM needs RESIZE above 160 (five scales, window 11); found {config.resize}"
        yield f"CRITERION_{kind}", text


def _downsampling(config: SectionConfig) -> Iterator[Contradiction]:
    side = max(_map_side(config, name) for name in config.criterion_val)
    for name in ("reduction", "image_reduction", "pixel_reduction"):
        if getattr(config, name, None) == "downsample_8x8" and side < 8:
            text = (
                f"downsample_8x8 needs maps of 8 × 8 or more; CRITERION_VAL's have {side} × {side}"
            )
            yield name.upper(), f"{text}: give mean or max"


def _map_side(config: SectionConfig, criterion: str) -> int:
    if criterion in ("PERCEPTUAL_VIT_mae", "EMBED_MSE"):
        return config.resize // 16
    if criterion.startswith("PERCEPTUAL_RESNET"):
        # Five stages, from half the size down; -1 is the last.
        return max(config.resize // 2 ** (stage % 5 + 1) for stage in config.perceptual_hstate_val)
    return config.resize


def _metric(config: SectionConfig, kind: str) -> Iterator[Contradiction]:
    names = getattr(config, f"criterion_{kind.lower()}")
    metric = getattr(config, f"perceptual_metric_{kind.lower()}")
    vits = [name for name in names if name.startswith("PERCEPTUAL_VIT")]
    if metric in _RESNET_METRICS and vits:
        text = (
            f"{metric} is for PERCEPTUAL_RESNET*, not for {vits[0]}; give cosine, L1, L2, L2tot "
            "or cosinetot"
        )
        yield f"PERCEPTUAL_METRIC_{kind}", text
