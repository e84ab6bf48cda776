"""Frozen timm ViTs: weights resampled to a size, and outputs of single blocks."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from utils.timm_vits import TimmViT, create_timm_vit


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
        state_dict = {
            key: tensor
            for key, tensor in state_dict.items()
            if not (block := re.match(r"blocks\.(\d+)\.", key)) or int(block[1]) < depth
        }
    model = create_timm_vit(name, state_dict, img_size=img_size, patch_size=patch_size, depth=depth)
    return model.requires_grad_(False).eval()


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
