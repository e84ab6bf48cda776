"""timm's plain ViTs: what they look like, and how one is built at a size."""

import difflib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor

# timm's ViT families share an interface, not a base class.
TimmViT = Any
_USE_A_TAG = "use the tag of a plain timm ViT"


class UnknownBackboneError(ValueError):
    """timm has no ViT of that name, or cannot build it at that size; says what to use."""


@dataclass(frozen=True)
class BackboneGeometry:
    """What a timm ViT looks like, read without allocating its weights."""

    dim: int  # width of its tokens
    depth: int  # number of blocks
    num_prefix_tokens: int  # class and register tokens in front of the patch tokens
    patch_size: int  # pixels along a side of a patch
    # Shapes of all tensors in its blocks; in some families they depend on the number of patches.
    block_shapes: tuple[tuple[int, ...], ...]

    @property
    def num_registers(self) -> int:
        """Prefix tokens less the class token."""
        return max(self.num_prefix_tokens - 1, 0)

    def has_block(self, hidden_state: int) -> bool:
        """Whether there is such a block; negative numbers count from the end."""
        return -self.depth <= hidden_state < self.depth

    def block_indices(self, hidden_states: Sequence[int]) -> list[int]:
        """Indices from 0 of blocks that there are, in the order asked."""
        return [state % self.depth for state in hidden_states]


# Many keys ask for one backbone, and deep ones take a while even without weights.
@functools.cache
def backbone_geometry(
    name: str, *, img_size: int | None = None, patch_size: int | None = None
) -> BackboneGeometry:
    """Geometry of a timm ViT, at its native or a different size; reads no weights.

    Raises:
        UnknownBackboneError: There is none.
    """
    with torch.device("meta"):
        model = create_timm_vit(name, img_size=img_size, patch_size=patch_size)
    try:
        return BackboneGeometry(
            dim=model.embed_dim,
            depth=len(model.blocks),
            num_prefix_tokens=model.num_prefix_tokens,
            patch_size=model.patch_embed.patch_size[0],
            block_shapes=tuple(tuple(each.shape) for each in model.blocks.state_dict().values()),
        )
    except (AttributeError, TypeError) as error:
        raise _no_plain_vit(name) from error


def create_timm_vit(
    name: str, state_dict: Mapping[str, Tensor] | None = None, **sizes: int | None
) -> TimmViT:
    """A timm ViT without head.

    Args:
        name: timm tag.
        state_dict: Weights in timm's names at the native size, resampled as timm does on loading.
        sizes: ``img_size``, ``patch_size`` and ``depth``; None is the native one.

    Raises:
        UnknownBackboneError: timm cannot build it so.
    """
    # In timm's names, the architecture is before the dot and the weights after it.
    if not timm.is_model(name.partition(".")[0]):
        raise UnknownBackboneError(f"timm has no model '{name}'; {_near_names(name)}")
    given: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
    weights: dict[str, Any] = {}
    if state_dict is not None:
        # timm changes the overlay in place: a fresh one each time.
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state_dict)}}
    try:
        model = timm.create_model(name, num_classes=0, **given, **weights)
    except Exception as error:
        # Families that do not support a size, or are not ViTs, raise anything.
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        sizes_given = f" with {given}" if given else ""
        raise UnknownBackboneError(
            f"timm cannot build '{name}'{sizes_given}: {reason}; {_near_names(name)}"
        ) from error
    # timm keeps them with the model, so all weights would be in memory twice.
    kept: Any = model.pretrained_cfg
    kept.pop("state_dict", None)
    needed = ("blocks", "patch_embed", "num_prefix_tokens", "forward_intermediates")
    if not all(hasattr(model, attribute) for attribute in needed):
        raise _no_plain_vit(name)
    return model


def _no_plain_vit(name: str) -> UnknownBackboneError:
    text = f"'{name}' is not a plain vision transformer; {_near_names(name)}"
    return UnknownBackboneError(text)


def _near_names(name: str) -> str:
    architecture, _, tag = name.partition(".")
    within_owner = name.rpartition("/")[2]
    if "/" in name and timm.is_model(within_owner.partition(".")[0]):
        return f"write {within_owner}"
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        return f"did you mean {', '.join(near)}?" if near else _USE_A_TAG
    known = timm.list_pretrained(f"{architecture}.*")
    return f"available: {', '.join(known)}" if tag and name not in known else _USE_A_TAG
