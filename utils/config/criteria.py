"""The criteria that a section's CRITERION_* and PERCEPTUAL_* keys ask for."""

from __future__ import annotations

from dataclasses import dataclass

from utils.config.schema import SectionConfig

SINGLE_PATCH_SIZE = 16
AT_SINGLE_PATCH_SIZE = ("PERCEPTUAL_VIT_mae", "EMBED_MSE")
NUM_RESNET_STAGES = 5
RESNETS = {
    "PERCEPTUAL_RESNET18": "resnet18.tv_in1k",
    "PERCEPTUAL_RESNET34": "resnet34.tv_in1k",
    "PERCEPTUAL_RESNET101": "resnet101.tv_in1k",
}
# Criteria of each section: the keys CRITERION_<kind> and PERCEPTUAL_*_<kind>.
KINDS = {"TRAINING": ("TRAIN", "VAL"), "TESTING": ("VAL",)}


@dataclass(frozen=True)
class CriterionSpec:
    """The CRITERION_<kind> and PERCEPTUAL_*_<kind> keys of a section."""

    kind: str  # ``TRAIN`` or ``VAL``
    names: tuple[str, ...]
    weights: tuple[float, ...]
    metric: str  # distance of the perceptual criteria
    hidden_states: tuple[int, ...]  # blocks, negative ones counted from the end
    patch_sizes: tuple[int, ...]  # patch sizes of ``PERCEPTUAL_VIT_mae_multi``

    @classmethod
    def of(cls, config: SectionConfig, kind: str) -> CriterionSpec:
        """Read the keys of ``kind`` from a section."""
        suffix = kind.lower()
        return cls(
            kind=kind,
            names=getattr(config, f"criterion_{suffix}"),
            weights=getattr(config, f"criterion_{suffix}_weights"),
            metric=getattr(config, f"perceptual_metric_{suffix}"),
            hidden_states=getattr(config, f"perceptual_hstate_{suffix}"),
            patch_sizes=getattr(config, f"perceptual_patch_size_{suffix}"),
        )

    @property
    def resnets(self) -> list[str]:
        """Those of its criteria whose network is a ResNet."""
        return [name for name in self.names if name in RESNETS]

    @property
    def at_single_patch_size(self) -> list[str]:
        """Those of its criteria that run the perceptual ViT at ``SINGLE_PATCH_SIZE``."""
        return [name for name in self.names if name in AT_SINGLE_PATCH_SIZE]

    @property
    def vit_patch_sizes(self) -> list[int]:
        """Every patch size that the perceptual ViT is run at, once."""
        sizes = self.patch_sizes if "PERCEPTUAL_VIT_mae_multi" in self.names else ()
        single = (SINGLE_PATCH_SIZE,) if self.at_single_patch_size else ()
        return list(dict.fromkeys([*sizes, *single]))


def looks_at_blocks(names: tuple[str, ...]) -> bool:
    """Whether one of these criteria compares outputs of the perceptual ViT's blocks."""
    return any(name.startswith("PERCEPTUAL_VIT") for name in names)
