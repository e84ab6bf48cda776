"""The pixel decoder: a small ViT that reconstructs the image (MAE layout, arXiv 2111.06377)."""

import torch
from einops import rearrange, repeat
from timm.models.vision_transformer import Block
from torch import Tensor, nn


def sincos_position_embedding(dim: int, grid_size: int) -> Tensor:
    """Fixed 2-D sin-cos embedding in MAE's layout: column half, then row half.

    Args:
        dim: Width D, a multiple of 4.
        grid_size: Patches n along each side.

    Returns:
        (1, n², D), float32.
    """
    frequencies = 1.0 / 10_000 ** (torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = torch.arange(grid_size, dtype=torch.float64)[:, None] * frequencies  # (n, D/4)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, D/2)
    columns = repeat(axis, "x d -> (y x) d", y=grid_size)
    rows = repeat(axis, "y d -> (y x) d", x=grid_size)
    return torch.cat([columns, rows], dim=1).float().unsqueeze(0)


class PixelDecoder(nn.Module):
    """Tokens to pixels.

    Args:
        input_dim: Width of the tokens that come in.
        dim: Width D of the decoder.
        num_patches: Patches n along each side of the image.
        patch_size: Pixels p along each side of a patch.
        num_registers: Register tokens r.
        depth: Number of transformer blocks.
        num_heads: Attention heads; divides ``dim``.
        mlp_ratio: Hidden width of the blocks' MLP over D.
        out_channels: Channels C of the prediction: 3, or 1 (then repeated to three).
    """

    def __init__(
        self,
        *,
        input_dim: int,
        dim: int,
        num_patches: int,
        patch_size: int,
        num_registers: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.patch_size = patch_size
        self.num_registers = num_registers
        self.out_channels = out_channels
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 1e-3)
        # Published checkpoints without registers have no such name.
        registers = torch.randn(1, num_registers, dim) * 1e-3
        self.reg_tokens = nn.Parameter(registers) if num_registers else None
        self.decoder_pos_embed = nn.Parameter(
            sincos_position_embedding(dim, num_patches), requires_grad=False
        )
        self.decoder_embed = nn.Linear(input_dim, dim)
        self.decoder_blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, qkv_bias=True) for _ in range(depth)
        )
        self.decoder_norm = nn.LayerNorm(dim)
        self.decoder_prediction = nn.Linear(dim, patch_size**2 * out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n², input_dim) → (B, 3, n·p, n·p) in normalised intensities."""
        patches = self.decoder_embed(tokens) + self.decoder_pos_embed
        prefix: Tensor = self.cls_token
        if self.reg_tokens is not None:
            prefix = torch.cat([self.reg_tokens, prefix], dim=1)
        sequence = torch.cat([prefix.expand(tokens.shape[0], -1, -1), patches], dim=1)
        for block in self.decoder_blocks:
            sequence = block(sequence)
        patches = self.decoder_norm(sequence[:, prefix.shape[1] :])
        return self._unpatchify(self.decoder_prediction(patches))

    def _unpatchify(self, patches: Tensor) -> Tensor:
        """(B, n², p·p·C) → (B, 3, n·p, n·p)."""
        image = rearrange(
            patches,
            "b (ny nx) (py px c) -> b c (ny py) (nx px)",
            ny=self.num_patches,
            py=self.patch_size,
            px=self.patch_size,
        )
        return image.expand(-1, 3, -1, -1) if self.out_channels == 1 else image
