"""One frozen vision transformer with the trained layers that fit its tokens to the Q-Former."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbone import block_outputs, create_backbone

HiddenStates = dict[int, Tensor]
"""Block of a ViT, from 0 → its output, (B, prefix + patches, D)."""


class Encoder(nn.Module):
    """Frozen ViT → tokens of several blocks → optional trained block → trained projection.

    Args:
        name: timm tag of the ViT.
        img_size: Pixels along each side of the input.
        patch_size: Pixels along each side of a patch.
        block_indices: Blocks whose outputs are concatenated along the tokens, in this order.
        compared_blocks: Blocks of :meth:`patch_tokens`, computed in the same pass.
        state_dict: Native weights of the ViT, None if they are loaded afterwards.
        additional_block: (width, heads, mlp_ratio) of the trained block; None for none.
        projection: (in_features, out_features) of the trained linear layer; None for none.
    """

    def __init__(
        self,
        name: str,
        *,
        img_size: int,
        patch_size: int,
        block_indices: Sequence[int],
        compared_blocks: Sequence[int] = (),
        state_dict: Mapping[str, Tensor] | None = None,
        additional_block: tuple[int, int, float] | None = None,
        projection: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.model = create_backbone(
            name, img_size=img_size, patch_size=patch_size, state_dict=state_dict
        )
        self.block_indices = tuple(block_indices)
        self.compared_blocks = tuple(compared_blocks)
        self.additional_block = Block(*additional_block) if additional_block else nn.Identity()
        self.final_projection = nn.Linear(*projection) if projection else nn.Identity()

    def train(self, mode: bool = True) -> Encoder:
        """Set the trained layers' mode; the frozen ViT stays in eval mode."""
        super().train(mode)
        self.model.eval()
        return self

    def drop_unused_blocks(self) -> None:
        """Free the blocks behind the deepest one needed; the ViT's state dict loses them."""
        del self.model.blocks[max(self.block_indices + self.compared_blocks) + 1 :]

    def forward(self, images: Tensor) -> HiddenStates:
        """(B, 3, H, W) → outputs of the frozen ViT's blocks."""
        blocks = list(dict.fromkeys(self.block_indices + self.compared_blocks))
        with torch.no_grad():
            outputs = block_outputs(self.model, images, blocks, prefix_tokens=True)
        return dict(zip(blocks, outputs, strict=True))

    def project(self, states: HiddenStates) -> Tensor:
        """Tokens for the Q-Former: (B, N, D), N = blocks · (prefix + patches)."""
        tokens = torch.cat([states[index] for index in self.block_indices], dim=1)
        return self.final_projection(self.additional_block(tokens))

    def patch_tokens(self, states: HiddenStates) -> Tensor:
        """Patches to compare: (B, patches, blocks · D), each of length 1, fp32, no gradient."""
        first = self.model.num_prefix_tokens
        patches = [states[index][:, first:].float() for index in self.compared_blocks]
        return F.normalize(torch.cat(patches, dim=-1), dim=-1)
