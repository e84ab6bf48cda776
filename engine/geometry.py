"""A config compared with the backbones it names, before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence

from engine.criterion_spec import RESNETS, CriterionSpec
from models.backbone import BackboneGeometry, UnknownBackboneError, backbone_geometry
from utils.errors import ConfigError, Problem
from utils.schema import SectionConfig
from utils.weights import HUB, RANDOM


def check_geometry(config: SectionConfig, kinds: Sequence[str], *, file: str, section: str) -> None:
    """Compare a section with its backbones; only their geometry is read.

    Args:
        config: The section's config.
        kinds: Criteria to check, ``TRAIN`` and ``VAL``.
        file: The INI file, for messages.
        section: The section's name, for messages.

    Raises:
        ConfigError: With every key that a backbone contradicts.
    """
    found = _encoder_problems(config)
    for kind in kinds:
        found += _criterion_problems(config, CriterionSpec.of(config, kind))
    if found:
        unique = dict.fromkeys(found)
        raise ConfigError([Problem(file, section, key, text) for key, text in unique])


def _encoder_problems(config: SectionConfig) -> list[tuple[str, str]]:
    problems = []
    for index, name in enumerate(config.model_name):
        try:
            geometry = backbone_geometry(
                name, img_size=config.resize, patch_size=config.patch_size[index]
            )
        except UnknownBackboneError as error:
            problems.append(("MODEL_NAME", f"{error}; give a timm ViT's tag"))
            continue
        problems += _prefix_problem(config, index, geometry)
        problems += _state_problems("USE_HIDDEN_STATE", name, geometry, config.use_hidden_state)
        problems += _width_problems(config, index, geometry)
    return problems


def _prefix_problem(
    config: SectionConfig, index: int, geometry: BackboneGeometry
) -> list[tuple[str, str]]:
    registers = max(geometry.num_prefix_tokens - 1, 0)
    if config.n_reg_tokens[index] == registers:
        return []
    text = (
        f"found {config.n_reg_tokens[index]}; {config.model_name[index]} has "
        f"{geometry.num_prefix_tokens} prefix tokens, so give {registers}"
    )
    return [("N_REG_TOKENS", text)]


def _state_problems(
    key: str, name: str, geometry: BackboneGeometry, states: Sequence[int]
) -> list[tuple[str, str]]:
    depth = geometry.depth
    return [
        (key, f"{name} has no block {state}; give numbers from {-depth} to {depth - 1}")
        for state in states
        if geometry.block_index(state) is None
    ]


def _width_problems(
    config: SectionConfig, index: int, geometry: BackboneGeometry
) -> list[tuple[str, str]]:
    name = config.model_name[index]
    if config.additional_block_dim and config.additional_block_dim[index] != geometry.dim:
        text = f"found {config.additional_block_dim[index]}; {name} has width {geometry.dim}"
        return [("ADDITIONAL_BLOCK_DIM", text)]
    if config.final_proj_in_features:
        if config.final_proj_in_features[index] != geometry.dim:
            text = f"found {config.final_proj_in_features[index]}; {name} has width {geometry.dim}"
            return [("FINAL_PROJ_IN_FEATURES", text)]
    elif config.junction_dim != geometry.dim:
        text = (
            f"found {config.junction_dim}; {name} has width {geometry.dim} and FINAL_PROJ_* is "
            "empty: give that width, or a projection"
        )
        return [("JUNCTION_DIM", text)]
    return []


def _criterion_problems(config: SectionConfig, spec: CriterionSpec) -> list[tuple[str, str]]:
    if not spec.vit_patch_sizes:
        return []
    name = config.perceptual_model_name
    problems = []
    try:
        for size in dict.fromkeys(spec.vit_patch_sizes):
            geometry = backbone_geometry(name, img_size=config.resize, patch_size=size)
    except UnknownBackboneError as error:
        return [("PERCEPTUAL_MODEL_NAME", f"{error}; give a timm ViT's tag")]
    problems += _state_problems(
        f"PERCEPTUAL_HSTATE_{spec.kind}", name, geometry, spec.hidden_states
    )
    resnets = [each for each in spec.names if each in RESNETS]
    if resnets and config.perceptual_weights not in (HUB, RANDOM):
        text = f"one file cannot serve both {name} and {resnets[0]}; give hub, or one network"
        problems.append(("PERCEPTUAL_WEIGHTS", text))
    return problems
