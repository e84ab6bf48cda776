"""The Q-Former bottleneck: learned queries gather the encoder's tokens (paper section 3)."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

CROSS_ATTENTION_HEAD_DIM = 64


class MultiQueryAttention(nn.Module):
    """Causal self-attention among the queries, with one key head and one value head for all.

    Args:
        dim: Width D of the queries.
        num_heads: Query heads h; divides ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.Wqkv = nn.Linear(dim, dim + 2 * self.head_dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor) -> Tensor:
        """(B, Q, D) → (B, Q, D); query i sees the queries up to i."""
        dim = self.num_heads * self.head_dim
        query, key, value = self.Wqkv(queries).split([dim, self.head_dim, self.head_dim], dim=-1)
        query = rearrange(query, "b q (h d) -> b h q d", h=self.num_heads)
        # One head, seen by all query heads: (B, Q, d) → (B, h, Q, d) without a copy.
        key = key.unsqueeze(1).expand_as(query)
        value = value.unsqueeze(1).expand_as(query)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(rearrange(attended, "b h q d -> b q (h d)"))


class CrossAttention(nn.Module):
    """The queries attend to the encoder's tokens and to one learned null token.

    Args:
        dim: Width D of queries and tokens.
        num_heads: Heads h, each 64 wide whatever D is.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner_dim = num_heads * CROSS_ATTENTION_HEAD_DIM
        self.null_kv = nn.Parameter(torch.randn(2, CROSS_ATTENTION_HEAD_DIM))
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner_dim, dim, bias=False), nn.LayerNorm(dim))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(1 or B, Q, D), (B, N, D) → (B, Q, D)."""
        batch_size = tokens.shape[0]
        key, value = rearrange(
            self.to_kv(tokens), "b n (two h d) -> two b h n d", two=2, h=self.num_heads
        )
        null = self.null_kv.to(key.dtype)[:, None, None, None, :]
        null = null.expand(2, batch_size, self.num_heads, 1, -1)
        key = torch.cat([null[0], key], dim=2)  # (B, h, 1 + N, d)
        value = torch.cat([null[1], value], dim=2)
        query = rearrange(self.to_q(self.norm(queries)), "b q (h d) -> b h q d", h=self.num_heads)
        query = query.expand(batch_size, -1, -1, -1)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(rearrange(attended, "b h q d -> b q (h d)"))


class QFormerBlock(nn.Module):
    """Self-attention, cross-attention where the block has one, projection; no residuals.

    Args:
        dim: Width D of the queries.
        output_dim: Width that the projection puts out.
        num_heads: Heads of both attentions.
        mlp_ratio: Hidden width of the projection over D.
        cross_attention: Whether the block sees the encoder's tokens.
    """

    def __init__(
        self, dim: int, output_dim: int, num_heads: int, mlp_ratio: float, *, cross_attention: bool
    ) -> None:
        super().__init__()
        self.attn = MultiQueryAttention(dim, num_heads)
        self.cross_attn = CrossAttention(dim, num_heads) if cross_attention else None
        hidden_dim = int(dim * mlp_ratio)
        self.projection = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, output_dim),
            nn.Dropout(0.01),
        )

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(1 or B, Q, D), (B, N, D) → (B, Q, output_dim)."""
        queries = self.attn(queries)
        if self.cross_attn is not None:
            queries = self.cross_attn(queries, tokens)
        return self.projection(queries)


class QFormer(nn.Module):
    """A stack of Q-Former blocks; blocks 0, 2, 4, … attend to the encoder's tokens.

    The learned queries enter with a batch of one and are spread over the batch only where they
    meet the image, so block 0's self-attention is computed once per batch.

    Args:
        num_blocks: Number of blocks.
        num_queries: Number of learned queries Q.
        dim: Width D of queries and tokens.
        output_dim: Width that the last block puts out.
        num_heads: Heads of both attentions.
        mlp_ratio: Hidden width of the projections over D.
        query_std: Standard deviation of the queries at the start. As published they begin so
            alike that the first self-attention, whose bias is larger, hides what tells them apart.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        num_queries: int,
        dim: int,
        output_dim: int,
        num_heads: int,
        mlp_ratio: float,
        query_std: float = 1e-3,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, num_queries, dim) * query_std)
        self.blocks = nn.ModuleList(
            QFormerBlock(
                dim,
                output_dim if index == num_blocks - 1 else dim,
                num_heads,
                mlp_ratio,
                cross_attention=index % 2 == 0,
            )
            for index in range(num_blocks)
        )

    def query_std(self) -> float:
        """How far apart the learned queries are: standard deviation over Q, mean over D."""
        return float(self.queries.detach().std(dim=1, correction=0).mean())

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) → (B, Q, output_dim)."""
        queries = self.queries
        for block in self.blocks:
            queries = block(queries, tokens)
        return queries
