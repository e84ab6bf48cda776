"""The perceptual networks: a frozen MAE ViT at several patch sizes, and frozen ResNets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from models.backbone import block_outputs, create_backbone


class PerceptualViT(nn.Module):
    """A frozen ViT that looks at images at several patch sizes with one trunk in memory.

    Patch and position embeddings are resampled to each patch size; all blocks are shared.

    Args:
        name: timm tag.
        img_size: Pixels along each side of the input.
        patch_sizes: Pixels along each side of a patch, for every size that is asked for later.
        deepest_block: Index of the deepest block asked for later; the ones behind it are not built.
            -1 where none is.
        state_dict: Native weights in timm's names.
    """

    def __init__(
        self,
        name: str,
        *,
        img_size: int,
        patch_sizes: Sequence[int],
        deepest_block: int,
        state_dict: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.views = nn.ModuleDict()
        trunk: Any = None
        for size in dict.fromkeys(patch_sizes):
            view = create_backbone(
                name,
                img_size=img_size,
                patch_size=size,
                state_dict=state_dict,
                depth=deepest_block + 1 if trunk is None else 0,
            )
            trunk = view.blocks if trunk is None else trunk
            view.blocks = trunk
            self.views[str(size)] = view

    def train(self, mode: bool = True) -> PerceptualViT:
        """Stay in eval mode: a frozen network has no training mode."""
        return super().train(False)

    def forward(
        self, images: Tensor, patch_size: int, block_indices: Sequence[int]
    ) -> list[Tensor]:
        """(B, 3, H, W) → patch tokens of each block as (B, C, H/patch_size, W/patch_size)."""
        outputs = block_outputs(
            self.views[str(patch_size)], images, block_indices, prefix_tokens=False
        )
        side = images.shape[-1] // patch_size
        return [tokens.mT.unflatten(-1, (-1, side)) for tokens in outputs]

    def embed(self, images: Tensor, patch_size: int) -> Tensor:
        """(B, 3, H, W) → patch embeddings (B, C, H/patch_size, W/patch_size), no positions."""
        view: Any = self.views[str(patch_size)]
        tokens = view.patch_embed(images).flatten(1, -2)
        return tokens.mT.unflatten(-1, (-1, images.shape[-1] // patch_size))


class PerceptualResNet(nn.Module):
    """The outputs of a frozen ResNet's stem (after its activation) and four stages.

    Args:
        name: timm tag.
        state_dict: Weights in timm's names.

    Raises:
        RuntimeError: The weights are of another architecture.
    """

    def __init__(self, name: str, state_dict: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model = timm.create_model(name, features_only=True)
        wanted = self.model.state_dict()
        self.model.load_state_dict({name: state_dict.get(name, torch.empty(0)) for name in wanted})
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualResNet:
        """Stay in eval mode: a frozen network has no training mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → five feature maps (B, C, H/2^k, W/2^k), k from 1 to 5."""
        return self.model(images)
