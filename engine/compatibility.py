"""A config compared with the backbones it names, before any weight is read."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Sequence
from contextlib import suppress

import timm

from engine.criterion_spec import NUM_RESNET_STAGES, RESNETS, CriterionSpec
from models.backbone import BackboneGeometry, backbone_geometry
from utils.config.rules import of_encoder
from utils.config.schema import SectionConfig
from utils.errors import ConfigError, Problem
from utils.weights import HUB, RANDOM

# Pairs of an INI key and what its backbone says to it.
Found = list[tuple[str, str]]


class _UnfitBackboneError(Exception):
    """A backbone that cannot be built so; says what would do."""


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
    specs = [CriterionSpec.of(config, kind) for kind in kinds]
    found = _encoder_problems(config)
    for spec in specs:
        found += _criterion_problems(config, spec)
    found += _trunk_problems(config, specs)
    found += _file_problems(config, specs)
    if found:
        unique = dict.fromkeys(found)
        raise ConfigError([Problem(file, section, key, text) for key, text in unique])


# A patch size is asked for by several criteria, and deep models take a while even without weights.
@functools.cache
def _geometry(name: str, img_size: int, patch_size: int) -> BackboneGeometry:
    """Geometry of a backbone at a size.

    Raises:
        _UnfitBackboneError: There is none; the message says what would do.
    """
    if not timm.is_model(name.partition(".")[0]):
        raise _UnfitBackboneError(f"timm knows no model '{name}'; {_near_names(name)}")
    try:
        return backbone_geometry(name, img_size=img_size, patch_size=patch_size)
    except Exception as error:
        # Families that were not made for a size, or are no ViTs, fail in ways of their own.
        reason = _refusal(name) or (str(error) or type(error).__name__)
        if name not in reason:
            size = f"{img_size} pixels with patches of {patch_size}"
            reason = f"timm cannot build '{name}' at {size}: {reason}"
        raise _UnfitBackboneError(f"{_first_line(reason)}; {_near_names(name)}") from error


def _refusal(name: str) -> str:
    """Why there is no geometry of it at any size, empty where there is one at its native size."""
    try:
        backbone_geometry(name)
    except Exception as error:
        reason = _first_line(str(error) or type(error).__name__)
        return reason if name in reason else f"'{name}' is no plain vision transformer"
    return ""


def _first_line(text: str) -> str:
    return text.splitlines()[0].rstrip(".")


def _near_names(name: str) -> str:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        return f"near are {', '.join(near)}" if near else "give the tag of a plain ViT of timm"
    known = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in known:
        return f"known are {', '.join(known)}"
    return "give the tag of a plain ViT of timm"


def _encoder_problems(config: SectionConfig) -> Found:
    problems: Found = []
    for index, name in enumerate(config.model_name):
        try:
            geometry = _geometry(name, config.resize, of_encoder(config.patch_size, index))
        except _UnfitBackboneError as error:
            problems.append(("MODEL_NAME", str(error)))
            continue
        problems += _prefix_problem(config, index, geometry)
        problems += _state_problems("USE_HIDDEN_STATE", name, geometry, config.use_hidden_state)
        problems += _width_problems(config, index, geometry)
    return problems


def _prefix_problem(config: SectionConfig, index: int, geometry: BackboneGeometry) -> Found:
    registers = max(geometry.num_prefix_tokens - 1, 0)
    found = of_encoder(config.n_reg_tokens, index)
    if found == registers:
        return []
    text = (
        f"found {found}; {config.model_name[index]} has "
        f"{geometry.num_prefix_tokens} prefix tokens, so give {registers}"
    )
    return [("N_REG_TOKENS", text)]


def _state_problems(
    key: str, name: str, geometry: BackboneGeometry, states: Sequence[int]
) -> Found:
    depth = geometry.depth
    return [
        (key, f"{name} has no block {state}; give numbers from {-depth} to {depth - 1}")
        for state in states
        if geometry.block_index(state) is None
    ]


def _width_problems(config: SectionConfig, index: int, geometry: BackboneGeometry) -> Found:
    name = config.model_name[index]
    problems: Found = []
    for key in ("ADDITIONAL_BLOCK_DIM", "FINAL_PROJ_IN_FEATURES"):
        widths = getattr(config, key.lower())
        width = of_encoder(widths, index) if widths else geometry.dim
        if width != geometry.dim:
            problems.append((key, f"found {width}; {name} has width {geometry.dim}"))
    if not config.final_proj_in_features and config.junction_dim != geometry.dim:
        text = (
            f"found {config.junction_dim}; {name} has width {geometry.dim} and FINAL_PROJ_* is "
            "empty: give that width, or a projection"
        )
        problems.append(("JUNCTION_DIM", text))
    return problems


def _criterion_problems(config: SectionConfig, spec: CriterionSpec) -> Found:
    name = config.perceptual_model_name
    states = spec.hidden_states if spec.looks_at_blocks else ()
    problems = _stage_problems(spec)
    for size in dict.fromkeys(spec.vit_patch_sizes):
        try:
            geometry = _geometry(name, config.resize, size)
        except _UnfitBackboneError as error:
            problems.append(("PERCEPTUAL_MODEL_NAME", str(error)))
            continue
        problems += _state_problems(f"PERCEPTUAL_HSTATE_{spec.kind}", name, geometry, states)
    return problems


def _stage_problems(spec: CriterionSpec) -> Found:
    resnet = next((name for name in spec.names if name in RESNETS), None)
    most = NUM_RESNET_STAGES
    return [
        (
            f"PERCEPTUAL_HSTATE_{spec.kind}",
            f"{resnet} has no stage {stage}; give {-most} to {most - 1}, 0 is the stem",
        )
        for stage in spec.hidden_states
        if resnet and not -most <= stage < most
    ]


def _trunk_problems(config: SectionConfig, specs: Sequence[CriterionSpec]) -> Found:
    """All patch sizes share the blocks, so the blocks must not depend on the number of patches."""
    name = config.perceptual_model_name
    shapes = set()
    for size in {size for spec in specs for size in spec.vit_patch_sizes}:
        with suppress(_UnfitBackboneError):
            shapes.add(_geometry(name, config.resize, size).block_shapes)
    if len(shapes) < 2:
        return []
    text = (
        f"blocks of {name} depend on the number of patches, so that patch sizes cannot share "
        "them; give a ViT with position embeddings, or one patch size"
    )
    return [("PERCEPTUAL_MODEL_NAME", text)]


def _file_problems(config: SectionConfig, specs: Sequence[CriterionSpec]) -> Found:
    """A file holds the weights of one network; several criteria may need several."""
    if config.perceptual_weights in (HUB, RANDOM):
        return []
    networks = [config.perceptual_model_name] if any(s.vit_patch_sizes for s in specs) else []
    networks += [name for name in RESNETS if any(name in spec.names for spec in specs)]
    if len(networks) < 2:
        return []
    text = (
        f"one file cannot serve {' and '.join(networks)}: found {config.perceptual_weights!r}; "
        "give hub, or criteria of one network"
    )
    return [("PERCEPTUAL_WEIGHTS", text)]
