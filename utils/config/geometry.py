"""Compares a config with the backbones it names; only reads their geometry, no weights."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from utils.config.criteria import NUM_RESNET_STAGES, RESNETS, CriterionSpec, looks_at_blocks
from utils.config.rules import Contradiction, as_far_as_known, criteria_of, of_encoder
from utils.config.schema import SectionConfig
from utils.timm_vits import BackboneGeometry, UnknownBackboneError, backbone_geometry
from utils.weights import HUB, RANDOM

Found = Iterator[Contradiction]


def geometry_problems(config: SectionConfig, kinds: Sequence[str]) -> list[Contradiction]:
    """Problems of a section's keys with its backbones.

    Args:
        config: A section; keys whose value is wrong are missing in it.
        kinds: The section's criteria, ``TRAIN`` and ``VAL``.
    """
    found: list[Contradiction] = []
    for index, name in enumerate(getattr(config, "model_name", ())):
        try:
            geometry = backbone_geometry(name)
        except UnknownBackboneError as error:
            found.append(("MODEL_NAME", str(error)))
            continue
        unbuildable = as_far_as_known([_encoder_size], config, index)
        checks = [_registers, _encoder_states, _widths, _junction_width]
        found += unbuildable or as_far_as_known(checks, config, index, geometry)
    specs = criteria_of(config, kinds)
    for spec in specs:
        found += _stages(spec)
        found += as_far_as_known([_perceptual_vit], config, spec)
    return found + as_far_as_known([_shared_blocks, _weights_file], config, specs)


def _size(key: str, name: str, config: SectionConfig, patch_sizes: Sequence[int]) -> Found:
    for size in patch_sizes:
        try:
            if config.resize % size == 0:
                backbone_geometry(name, img_size=config.resize, patch_size=size)
        except UnknownBackboneError as error:
            yield key, str(error)


def _states(key: str, name: str, geometry: BackboneGeometry, states: Sequence[int]) -> Found:
    most = geometry.depth
    for state in states:
        if not geometry.has_block(state):
            yield key, f"{name} has no block {state}; use numbers from {-most} to {most - 1}"


def _encoder_size(config: SectionConfig, index: int) -> Found:
    sizes = [of_encoder(config.patch_size, index)]
    yield from _size("MODEL_NAME", config.model_name[index], config, sizes)


def _registers(config: SectionConfig, index: int, geometry: BackboneGeometry) -> Found:
    found = of_encoder(config.n_reg_tokens, index)
    if found != geometry.num_registers:
        text = (
            f"found {found}; {config.model_name[index]} has {geometry.num_prefix_tokens} prefix "
            f"tokens; use {geometry.num_registers}"
        )
        yield "N_REG_TOKENS", text


def _encoder_states(config: SectionConfig, index: int, geometry: BackboneGeometry) -> Found:
    name = config.model_name[index]
    yield from _states("USE_HIDDEN_STATE", name, geometry, config.use_hidden_state)
    others = set(getattr(config, "baseline_hstate", ())).difference(config.use_hidden_state)
    yield from _states("BASELINE_HSTATE", name, geometry, sorted(others))


def _widths(config: SectionConfig, index: int, geometry: BackboneGeometry) -> Found:
    name = config.model_name[index]
    for key in ("ADDITIONAL_BLOCK_DIM", "FINAL_PROJ_IN_FEATURES"):
        widths = getattr(config, key.lower(), ())
        if widths and of_encoder(widths, index) != geometry.dim:
            found = of_encoder(widths, index)
            yield key, f"found {found}; must be {geometry.dim}, the width of {name}"


def _junction_width(config: SectionConfig, index: int, geometry: BackboneGeometry) -> Found:
    projected = config.final_proj_in_features or config.final_proj_out_features
    if not projected and config.junction_dim != geometry.dim:
        text = (
            f"found {config.junction_dim}, but {config.model_name[index]} has width {geometry.dim} "
            "and FINAL_PROJ_* is empty: use that width, or set FINAL_PROJ_*"
        )
        yield "JUNCTION_DIM", text


def _perceptual_vit(config: SectionConfig, spec: CriterionSpec) -> Found:
    if not spec.vit_patch_sizes:
        return
    name = config.perceptual_model_name
    try:
        geometry = backbone_geometry(name)
    except UnknownBackboneError as error:
        yield "PERCEPTUAL_MODEL_NAME", str(error)
        return
    states = spec.hidden_states if looks_at_blocks(spec.names) else ()
    yield from _states(f"PERCEPTUAL_HSTATE_{spec.kind}", name, geometry, states)
    yield from _size("PERCEPTUAL_MODEL_NAME", name, config, spec.vit_patch_sizes)


def _stages(spec: CriterionSpec) -> Found:
    most = NUM_RESNET_STAGES
    for stage in spec.hidden_states if spec.resnets else ():
        if not -most <= stage < most:
            yield (
                f"PERCEPTUAL_HSTATE_{spec.kind}",
                f"{spec.resnets[0]} has no stage {stage}; use numbers from {-most} to {most - 1} "
                "(0 is the stem)",
            )


def _shared_blocks(config: SectionConfig, specs: Sequence[CriterionSpec]) -> Found:
    """All patch sizes share the blocks, so the blocks must not depend on the number of patches."""
    name, resize = config.perceptual_model_name, config.resize
    shapes = set()
    for size in {size for spec in specs for size in spec.vit_patch_sizes}:
        with suppress(UnknownBackboneError):
            geometry = backbone_geometry(name, img_size=resize, patch_size=size)
            shapes.add(geometry.block_shapes)
    if len(shapes) > 1:
        text = (
            f"blocks of {name} depend on the number of patches, so patch sizes cannot share them; "
            "use a ViT with position embeddings, or one patch size"
        )
        yield "PERCEPTUAL_MODEL_NAME", text


def _weights_file(config: SectionConfig, specs: Sequence[CriterionSpec]) -> Found:
    """A file has the weights of one network; several criteria may need several."""
    networks = [config.perceptual_model_name] if any(s.vit_patch_sizes for s in specs) else []
    networks += [name for name in RESNETS if any(name in spec.resnets for spec in specs)]
    if config.perceptual_weights not in (HUB, RANDOM) and len(networks) > 1:
        text = (
            f"found '{config.perceptual_weights}', but one file cannot serve "
            f"{' and '.join(networks)}; use hub, or criteria of one network"
        )
        yield "PERCEPTUAL_WEIGHTS", text
