"""The Q-Former against an obvious twin, and its properties for any number of blocks."""

import math

import pytest
import torch

from models.qformer import CrossAttention, MultiQueryAttention, QFormer


def build(num_blocks: int) -> QFormer:
    torch.manual_seed(0)
    sizes = {"num_queries": 9, "dim": 16, "output_dim": 12, "num_heads": 4, "mlp_ratio": 2}
    return QFormer(num_blocks=num_blocks, **sizes).eval()


def slow_self_attention(module: MultiQueryAttention, queries: torch.Tensor) -> torch.Tensor:
    """Per image, per head, per query: softmax over the queries up to it."""
    heads, width = module.num_heads, module.head_dim
    out = torch.zeros_like(queries)
    for b, image in enumerate(queries):
        projected = module.Wqkv(image)
        key, value = projected[:, -2 * width : -width], projected[:, -width:]
        for head in range(heads):
            query = projected[:, head * width : (head + 1) * width]
            for i in range(len(image)):
                weights = (query[i] @ key[: i + 1].T / math.sqrt(width)).softmax(dim=0)
                out[b, i, head * width : (head + 1) * width] = weights @ value[: i + 1]
    return module.out_proj(out)


def slow_cross_attention(module: CrossAttention, queries, tokens) -> torch.Tensor:
    """Per image and head, with the null key and value in front."""
    out = []
    for image in range(len(tokens)):
        query = module.to_q(module.norm(queries[image % len(queries)]))
        keys, values = module.to_kv(tokens[image]).chunk(2, dim=-1)
        heads = []
        for head in range(module.num_heads):
            part = slice(64 * head, 64 * (head + 1))
            key = torch.cat([module.null_kv[:1], keys[:, part]])
            value = torch.cat([module.null_kv[1:], values[:, part]])
            heads.append((query[:, part] @ key.T / 8).softmax(dim=-1) @ value)
        out.append(module.to_out(torch.cat(heads, dim=-1)))
    return torch.stack(out)


@torch.no_grad()
def test_self_attention_equals_its_twin():
    torch.manual_seed(1)
    module, queries = MultiQueryAttention(16, 4), torch.randn(3, 9, 16)
    torch.testing.assert_close(module(queries), slow_self_attention(module, queries))


@torch.no_grad()
@pytest.mark.parametrize("query_batch", [1, 3])
def test_cross_attention_equals_its_twin(query_batch):
    torch.manual_seed(2)
    module = CrossAttention(16, 3)
    queries, tokens = torch.randn(query_batch, 9, 16), torch.randn(3, 7, 16)
    expected = slow_cross_attention(module, queries, tokens)
    found = module(queries, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("num_blocks", [1, 2, 3, 5])
def test_any_number_of_blocks(num_blocks):
    qformer = build(num_blocks)
    assert qformer(torch.randn(2, 7, 16)).shape == (2, 9, 12)
    crossing = [block.cross_attn is not None for block in qformer.blocks]
    assert crossing == [index % 2 == 0 for index in range(num_blocks)]


@torch.no_grad()
@pytest.mark.parametrize("num_blocks", [1, 2, 3])
def test_images_of_a_batch_do_not_see_each_other(num_blocks):
    qformer, tokens = build(num_blocks), torch.randn(3, 7, 16)
    together = qformer(tokens)
    alone = torch.cat([qformer(image[None]) for image in tokens])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
