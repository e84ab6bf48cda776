"""The published way to compute the same numbers, as the other side of a comparison.

All blocks of all frozen ViTs run; each patch size has a whole perceptual network in memory, in
training a second one for the validation; the queries are spread over the batch before their
self-attention; the Q-Former's attentions are softmax(QK^T)V with their matrices in memory (timm's
blocks are fused there too); matrix products are PyTorch's default ones; the image's perceptual
features are computed apart from the reconstruction's, in training inside autograd; images,
reconstructions, features, attention maps and distance maps of all tested images are kept until the
end.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from einops import rearrange
from timm.layers import Mlp
from torch import Tensor, nn

from models.autoencoder import QFormerAutoencoder
from models.backbone import block_outputs
from models.criteria import MultiPatchPerceptual, WeightedCriteria
from models.encoder import Encoder, HiddenStates
from models.onednn import OneDnnLinear, OneDnnMlp, OneDnnPatchProjection
from models.perceptual import PerceptualViT
from models.qformer import CROSS_ATTENTION_HEAD_DIM, CrossAttention, MultiQueryAttention, QFormer
from utils.config.schema import SectionConfig, TrainingConfig
from utils.timm_vits import backbone_geometry
from utils.weights import native_state_dict

_ORIGINALS: dict[type, type] = {
    OneDnnLinear: nn.Linear,
    OneDnnMlp: Mlp,
    OneDnnPatchProjection: nn.Conv2d,
}


class EveryBlockEncoder(Encoder):
    """Runs the blocks behind the deepest one needed too."""

    def forward(self, images: Tensor) -> HiddenStates:
        """(B, 3, H, W) → what the blocks that are needed put out."""
        indices = [*self.block_indices, len(self.model.blocks) - 1]
        with torch.no_grad():
            outputs = block_outputs(self.model, images, indices, prefix_tokens=True)[:-1]
        return dict(zip(self.block_indices, outputs, strict=True))


class SpreadQFormer(QFormer):
    """Computes the first self-attention once per image instead of once per batch."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) → (B, Q, output_dim)."""
        queries = self.queries.expand(len(tokens), -1, -1)
        for block in self.blocks:
            queries = block(queries, tokens)
        return queries


class ExplicitSelfAttention(MultiQueryAttention):
    """Holds its attention matrices in memory."""

    def forward(self, queries: Tensor) -> Tensor:
        """(B, Q, D) → (B, Q, D)."""
        dim = self.num_heads * self.head_dim
        query, key, value = self.Wqkv(queries).split([dim, self.head_dim, self.head_dim], dim=-1)
        query = rearrange(query, "b q (h d) -> b h q d", h=self.num_heads) * self.head_dim**-0.5
        logits = query @ key.unsqueeze(1).mT  # (B, h, Q, Q)
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        attention = logits.masked_fill(hidden, -torch.inf).softmax(dim=-1)
        attended = attention @ value.unsqueeze(1)
        return self.out_proj(rearrange(attended, "b h q d -> b q (h d)"))


class ExplicitCrossAttention(CrossAttention):
    """Holds its attention matrices in memory, in testing until the end.

    Attributes:
        kept: Attention maps of all tested images, (B, h, Q, 1 + N) a batch.
    """

    kept: list[Tensor]

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(B, Q, D), (B, N, D) → (B, Q, D)."""
        query = rearrange(self.to_q(self.norm(queries)), "b q (h d) -> b h q d", h=self.num_heads)
        key, value = rearrange(
            self.to_kv(tokens), "b n (two h d) -> two b h n d", two=2, h=self.num_heads
        )
        null = self.null_kv.to(key.dtype)[:, None, None, None, :]
        null = null.expand(2, len(tokens), self.num_heads, 1, -1)
        key = torch.cat([null[0], key], dim=2)  # (B, h, 1 + N, d)
        value = torch.cat([null[1], value], dim=2)
        logits = query * CROSS_ATTENTION_HEAD_DIM**-0.5 @ key.mT  # (B, h, Q, 1 + N)
        attention = logits.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
        if not self.training:
            self.kept.append(attention.detach().cpu())
        return self.to_out(rearrange(attention @ value, "b h q d -> b q (h d)"))


class SeparateViTs(nn.Module):
    """A whole perceptual ViT for each patch size; stands in for one :class:`PerceptualViT`.

    Args:
        config: Names the ViT and its weights.
        patch_sizes: Pixels along each side of a patch.
    """

    def __init__(self, config: SectionConfig, patch_sizes: Sequence[int]) -> None:
        super().__init__()
        name = config.perceptual_model_name
        weights = native_state_dict(
            name,
            config.perceptual_weights,
            key="PERCEPTUAL_WEIGHTS",
            cache_dir=config.cache_dir[0],
            seed=config.seed,
        )
        self.last_block = backbone_geometry(name).depth - 1
        self.networks = nn.ModuleDict(
            {
                str(size): PerceptualViT(
                    name,
                    img_size=config.resize,
                    patch_sizes=[size],
                    deepest_block=self.last_block,
                    state_dict=weights,
                )
                for size in patch_sizes
            }
        )

    def forward(
        self, images: Tensor, patch_size: int, block_indices: Sequence[int]
    ) -> list[Tensor]:
        """(B, 3, H, W) → patch tokens of each block as (B, C, H/patch_size, W/patch_size)."""
        network = self.networks[str(patch_size)]
        indices = [*block_indices, self.last_block]
        if torch.is_inference_mode_enabled():  # the criterion joins image and reconstruction
            halves = [network(half, patch_size, indices)[:-1] for half in images.chunk(2)]
            return [torch.cat(pair) for pair in zip(*halves, strict=True)]
        with torch.enable_grad():  # the criterion turns it off for the image itself
            return network(images, patch_size, indices)[:-1]


def make_as_published(
    config: SectionConfig, model: QFormerAutoencoder, criteria: Sequence[WeightedCriteria]
) -> list[Tensor]:
    """Change a model and its criteria in place: equal numbers, computed the published way.

    Args:
        config: The section that both were built from.
        model: From :func:`engine.build.build_autoencoder`, in full precision.
        criteria: From :func:`engine.build.build_criteria`.

    Returns:
        A list in which features, attention maps, images, reconstructions and distance maps of
        tested images gather, a batch in this order.
    """
    kept: list[Tensor] = []

    def keep(*tensors: Tensor) -> None:
        kept.extend(each.detach().cpu() for each in tensors)

    def keep_features(junction: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not junction.training:
            keep(*inputs)

    for encoder in model.encoders:
        # The published twin has the same layers and weights; only its forward differs.
        encoder.__class__ = EveryBlockEncoder
    model.junction.__class__ = SpreadQFormer
    model.junction.register_forward_pre_hook(keep_features)
    for module in list(model.junction.modules()):
        if isinstance(module, MultiQueryAttention):
            module.__class__ = ExplicitSelfAttention
        elif isinstance(module, CrossAttention):
            module.__class__ = ExplicitCrossAttention
            cast(ExplicitCrossAttention, module).kept = kept
    _separate_perceptual_networks(config, criteria)
    for criterion in criteria:
        criterion.register_forward_hook(lambda _, inputs, maps: keep(*inputs, maps))
    _use_default_kernels([model, *criteria])
    return kept


def _separate_perceptual_networks(
    config: SectionConfig, criteria: Sequence[WeightedCriteria]
) -> None:
    parts = [part for criterion in criteria for part in criterion.criteria]
    perceptual = [part for part in parts if isinstance(part, MultiPatchPerceptual)]
    sizes = dict.fromkeys(size for part in perceptual for size in part.patch_sizes)
    if sizes:
        networks = SeparateViTs(config, list(sizes))
        for part in perceptual:
            part.add_module("network", networks)
    if isinstance(config, TrainingConfig) and "PERCEPTUAL_VIT_mae_multi" in config.criterion_val:
        # The validation's criterion has networks of its own, which wait beside the loss's.
        waiting = SeparateViTs(config, config.perceptual_patch_size_val)
        criteria[0].add_module("validation_network", waiting)


def _use_default_kernels(modules: Sequence[nn.Module]) -> None:
    """PyTorch's own linear layers and convolutions."""
    parts: list[Any] = [part for module in modules for part in module.modules()]
    for part in parts:
        if type(part) in _ORIGINALS:
            part.__class__ = _ORIGINALS[type(part)]
