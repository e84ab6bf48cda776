"""Checks that a config's keys agree with each other, by arithmetic, before anything is built."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from utils.config.criteria import AT_SINGLE_PATCH_SIZE, SINGLE_PATCH_SIZE, CriterionSpec
from utils.config.schema import SectionConfig

# An INI key, and one line that says what it contradicts and how to fix it.
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
_FINAL_PROJECTION = _PER_ENCODER[3:5]
_ADDITIONAL_BLOCK = _PER_ENCODER[5:8]


def contradictions(config: SectionConfig, kinds: Sequence[str]) -> list[Contradiction]:
    """Contradictions between a section's keys.

    Args:
        config: A section; keys whose value is wrong are missing in it, and the rules that need
            them find nothing.
        kinds: The section's criteria, ``TRAIN`` and ``VAL``.
    """
    checks = [
        _list_lengths,
        _final_projection,
        _additional_block,
        _encoder_geometry,
        _junction,
        _decoder,
        _decoder_width,
        _downsampling,
    ]
    found = as_far_as_known(checks, config)
    for spec in criteria_of(config, kinds):
        found += [*_weights(spec), *_metric(spec)]
        found += as_far_as_known([_sizes], config, spec)
    return found


def as_far_as_known(
    checks: Iterable[Callable[..., Iterable[Contradiction]]], *arguments: object
) -> list[Contradiction]:
    """What the checks find.

    A check that needs a missing key or list entry ends there: that it is missing is already
    reported.
    """
    found: list[Contradiction] = []
    for check in checks:
        with suppress(AttributeError, IndexError):
            found.extend(check(*arguments))
    return found


def criteria_of(config: SectionConfig, kinds: Sequence[str]) -> list[CriterionSpec]:
    """The criteria of a section whose keys all have a value."""
    specs = []
    for kind in kinds:
        with suppress(AttributeError):
            specs.append(CriterionSpec.of(config, kind))
    return specs


def of_encoder(values: Sequence[Value], index: int) -> Value:
    """The value of one encoder, from a list that may have one for all."""
    return values[index] if len(values) > 1 else values[0]


def _list_lengths(config: SectionConfig) -> Iterator[Contradiction]:
    encoders = len(config.model_name)
    for name in _PER_ENCODER:
        length = len(getattr(config, name, config.model_name))
        may_be_empty = name in _FINAL_PROJECTION + _ADDITIONAL_BLOCK
        if length not in (1, encoders) and not (length == 0 and may_be_empty):
            text = f"found {length} values; use {encoders}, one per MODEL_NAME"
            yield name.upper(), text + (", or one for all" if encoders > 1 else "")


def _final_projection(config: SectionConfig) -> Iterator[Contradiction]:
    yield from _all_or_none(config, _FINAL_PROJECTION)
    for width in config.final_proj_out_features:
        if width != config.junction_dim:
            text = f"found {width}; must be JUNCTION_DIM = {config.junction_dim}"
            yield "FINAL_PROJ_OUT_FEATURES", text


def _additional_block(config: SectionConfig) -> Iterator[Contradiction]:
    yield from _all_or_none(config, _ADDITIONAL_BLOCK)
    for index in range(len(config.model_name)):
        width = of_encoder(config.additional_block_dim, index)
        heads = of_encoder(config.additional_block_num_heads, index)
        if width % heads:
            yield "ADDITIONAL_BLOCK_NUM_HEADS", f"{heads} heads do not divide the width {width}"


def _all_or_none(config: SectionConfig, names: Sequence[str]) -> Iterator[Contradiction]:
    filled = [name.upper() for name in names if getattr(config, name)]
    for name in names if filled else ():
        if not getattr(config, name):
            yield name.upper(), f"is empty but {filled[0]} is not; set all of them or none"


def _encoder_geometry(config: SectionConfig) -> Iterator[Contradiction]:
    for index, model in enumerate(config.model_name):
        patches = of_encoder(config.n_patches, index)
        size = of_encoder(config.patch_size, index)
        if patches * size != config.resize:
            text = (
                f"{patches} patches of {size} make {patches * size} pixels for {model}; "
                f"N_PATCHES · PATCH_SIZE must be RESIZE = {config.resize}"
            )
            yield "N_PATCHES", text


def _junction(config: SectionConfig) -> Iterator[Contradiction]:
    if config.junction_n_queries != config.decoder_n_patches**2:
        needed = config.decoder_n_patches**2
        text = f"found {config.junction_n_queries}; must be DECODER_N_PATCHES² = {needed}"
        yield "JUNCTION_N_QUERIES", text
    if config.junction_dim % config.junction_heads:
        text = f"{config.junction_heads} heads do not divide JUNCTION_DIM = {config.junction_dim}"
        yield "JUNCTION_HEADS", text


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


def _weights(spec: CriterionSpec) -> Iterator[Contradiction]:
    key, needed = f"CRITERION_{spec.kind}_WEIGHTS", len(spec.names)
    if len(spec.weights) != needed:
        found = len(spec.weights)
        yield key, f"found {found} weights; use {needed}, one per CRITERION_{spec.kind}"
    if not any(spec.weights):
        yield key, "all weights are 0; at least one must be above 0"


def _metric(spec: CriterionSpec) -> Iterator[Contradiction]:
    vits = [name for name in spec.names if name.startswith("PERCEPTUAL_VIT")]
    if spec.metric in ("L1tot", "content+style") and vits:
        text = (
            f"{spec.metric} is for PERCEPTUAL_RESNET*, not for {vits[0]}; use cosine, L1, L2, "
            "L2tot or cosinetot"
        )
        yield f"PERCEPTUAL_METRIC_{spec.kind}", text


def _sizes(config: SectionConfig, spec: CriterionSpec) -> Iterator[Contradiction]:
    resize, single = config.resize, spec.at_single_patch_size
    for size in spec.patch_sizes if "PERCEPTUAL_VIT_mae_multi" in spec.names else ():
        if resize % size:
            text = f"patch size {size} does not divide RESIZE = {resize}"
            yield f"PERCEPTUAL_PATCH_SIZE_{spec.kind}", text
    if single and resize % SINGLE_PATCH_SIZE:
        patches = f"patches of {SINGLE_PATCH_SIZE}, which do not divide RESIZE = {resize}"
        yield f"CRITERION_{spec.kind}", f"{single[0]} uses {patches}"
    if "MS_SSIM" in spec.names and resize <= 160:
        text = f"MS_SSIM needs RESIZE above 160 (five scales, window 11); found {resize}"
        yield f"CRITERION_{spec.kind}", text


def _downsampling(config: SectionConfig) -> Iterator[Contradiction]:
    side = max(_map_side(config, name) for name in config.criterion_val)
    for name in ("reduction", "image_reduction", "pixel_reduction"):
        if getattr(config, name, None) == "downsample_8x8" and side < 8:
            text = (
                "downsample_8x8 needs maps of at least 8 × 8, but those of CRITERION_VAL are "
                f"{side} × {side}; use mean or max"
            )
            yield name.upper(), text


def _map_side(config: SectionConfig, criterion: str) -> int:
    if criterion in AT_SINGLE_PATCH_SIZE:
        return config.resize // SINGLE_PATCH_SIZE
    if criterion.startswith("PERCEPTUAL_RESNET"):
        # Five stages, from half the size down; -1 is the last.
        return max(config.resize // 2 ** (stage % 5 + 1) for stage in config.perceptual_hstate_val)
    return config.resize
