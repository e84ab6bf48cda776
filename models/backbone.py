"""Frozen timm ViTs: their geometry, weights resampled to it, and outputs of single blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor

# timm's ViT families share an interface, not a base class.
TimmViT = Any


class UnknownBackboneError(ValueError):
    """timm knows no ViT of that name, or cannot build it at that geometry."""


@dataclass(frozen=True)
class BackboneGeometry:
    """What a timm ViT looks like, read without allocating its weights.

    Attributes:
        dim: Width of its tokens.
        depth: Number of blocks.
        num_prefix_tokens: Class and register tokens in front of the patch tokens.
        patch_size: Native patch size in pixels.
        block_shapes: Shapes of all tensors in its blocks; in some families they depend on the
            number of patches.
    """

    dim: int
    depth: int
    num_prefix_tokens: int
    patch_size: int
    block_shapes: tuple[tuple[int, ...], ...]

    def block_index(self, hidden_state: int) -> int | None:
        """Index of a block from 0; negative numbers count from the end; None: no such block."""
        index = hidden_state + self.depth if hidden_state < 0 else hidden_state
        return index if 0 <= index < self.depth else None


def backbone_geometry(
    name: str, *, img_size: int | None = None, patch_size: int | None = None
) -> BackboneGeometry:
    """Geometry of a timm ViT, at its native size or another; reads no weights.

    Raises:
        UnknownBackboneError: With what timm says and the nearest names.
    """
    with torch.device("meta"):
        model = _create(name, None, img_size, patch_size, None)
    return BackboneGeometry(
        dim=model.embed_dim,
        depth=len(model.blocks),
        num_prefix_tokens=model.num_prefix_tokens,
        patch_size=model.patch_embed.patch_size[0],
        block_shapes=tuple(tuple(each.shape) for each in model.blocks.state_dict().values()),
    )


def _create(
    name: str,
    state_dict: Mapping[str, Tensor] | None,
    img_size: int | None,
    patch_size: int | None,
    depth: int | None,
) -> TimmViT:
    """A timm ViT without head; with a native ``state_dict``, resampled as timm does on loading."""
    # timm names an architecture before the dot and its weights behind it.
    if not timm.is_model(name.split(".")[0]):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:12]}*")[:3])
        raise UnknownBackboneError(
            f"timm knows no model '{name}'" + (f"; near are {near}" if near else "")
        )
    sizes = {"img_size": img_size, "patch_size": patch_size, "depth": depth}
    given: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
    weights: dict[str, Any] = {}
    if state_dict is not None:
        # timm changes the overlay in place: a fresh one each time.
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state_dict)}}
    try:
        model = timm.create_model(name, num_classes=0, **given, **weights)
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnknownBackboneError(f"timm cannot build '{name}' with {given}: {reason}") from error
    # timm keeps them with the model, which would hold all weights twice.
    kept: Any = model.pretrained_cfg
    kept.pop("state_dict", None)
    needed = ("blocks", "patch_embed", "num_prefix_tokens", "forward_intermediates")
    if not all(hasattr(model, attribute) for attribute in needed):
        raise UnknownBackboneError(f"'{name}' is no plain vision transformer")
    return model


def create_backbone(
    name: str,
    *,
    img_size: int,
    patch_size: int,
    state_dict: Mapping[str, Tensor] | None = None,
    depth: int | None = None,
) -> TimmViT:
    """A frozen timm ViT without head, in eval mode.

    Args:
        name: timm tag.
        img_size: Pixels along each side of the input.
        patch_size: Pixels along each side of a patch.
        state_dict: Weights in timm's names at the native size; patch and position embeddings are
            resampled as timm does on loading. None leaves timm's random initialisation, for
            weights that are loaded afterwards.
        depth: Number of blocks to build, the first ones; None for all.

    Raises:
        UnknownBackboneError: timm cannot build it so.
    """
    if state_dict is not None and depth is not None:
        behind = [key for key in state_dict if _block_of(key) >= depth]
        state_dict = {key: state_dict[key] for key in state_dict.keys() - behind}
    model = _create(name, state_dict, img_size, patch_size, depth)
    return model.requires_grad_(False).eval()


def _block_of(key: str) -> int:
    """Index of the block that a name of the state dict belongs to; -1 for none."""
    found = re.match(r"blocks\.(\d+)\.", key)
    return int(found[1]) if found else -1


def block_outputs(
    model: TimmViT, images: Tensor, block_indices: Sequence[int], *, prefix_tokens: bool
) -> list[Tensor]:
    """Outputs of blocks, before the final norm; blocks behind the deepest one are not run.

    Args:
        model: A timm ViT.
        images: (B, 3, H, W), normalised.
        block_indices: Indices from 0, in any order, repeats allowed.
        prefix_tokens: Whether class and register tokens stay in front.

    Returns:
        (B, [prefix +] N, D) for each index, in the order asked.
    """
    order = sorted(set(block_indices))
    outputs = model.forward_intermediates(
        images,
        indices=order,
        return_prefix_tokens=prefix_tokens,
        norm=False,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    if prefix_tokens and model.num_prefix_tokens:
        outputs = [torch.cat([prefix, patches], dim=1) for patches, prefix in outputs]
    by_index = dict(zip(order, outputs, strict=True))
    return [by_index[index] for index in block_indices]
