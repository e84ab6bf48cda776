"""One frozen vision transformer with the trained layers that fit its tokens to the Q-Former."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from models.backbone import block_outputs, create_backbone


class Encoder(nn.Module):
    """Frozen ViT → tokens of several blocks → optional trained block → trained projection.

    Args:
        name: timm tag of the ViT.
        img_size: Pixels along each side of the input.
        patch_size: Pixels along each side of a patch.
        block_indices: Blocks whose outputs are concatenated along the tokens, in this order.
        state_dict: Native weights of the ViT, None where they are loaded afterwards.
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
        state_dict: Mapping[str, Tensor] | None = None,
        additional_block: tuple[int, int, float] | None = None,
        projection: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.model = create_backbone(
            name, img_size=img_size, patch_size=patch_size, state_dict=state_dict
        )
        self.block_indices = tuple(block_indices)
        self.additional_block = Block(*additional_block) if additional_block else nn.Identity()
        self.final_projection = nn.Linear(*projection) if projection else nn.Identity()

    def train(self, mode: bool = True) -> Encoder:
        """Set the trained layers' mode; the frozen ViT stays in eval mode."""
        super().train(mode)
        self.model.eval()
        return self

    def drop_unused_blocks(self) -> None:
        """Free the blocks behind the deepest one needed; the ViT's state dict loses them."""
        del self.model.blocks[max(self.block_indices) + 1 :]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, N, D), N = blocks · (prefix + patches)."""
        with torch.no_grad():
            outputs = block_outputs(self.model, images, self.block_indices, prefix_tokens=True)
        return self.final_projection(self.additional_block(torch.cat(outputs, dim=1)))
