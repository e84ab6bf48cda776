"""Which weights may be packed for the CPU's matrix products (models.linear.pack_weights).

Packed ones can be neither saved nor differentiated, and neither autocast nor compiled code takes
them.
"""

from __future__ import annotations

from typing import cast

from lightning_fabric import Fabric
from torch import nn

from engine.runtime import computes_in_bf16
from models.autoencoder import QFormerAutoencoder
from models.criteria import WeightedCriteria
from models.encoder import Encoder
from models.linear import pack_weights
from utils.schema import SectionConfig, TrainingConfig


def pack_for_training(config: TrainingConfig, model: QFormerAutoencoder) -> None:
    """Pack the frozen encoders of a placed model, unless they are saved."""
    if not config.compile and config.checkpoint_content != "full":
        for encoder in model.encoders:
            pack_weights(cast(Encoder, encoder).model)


def pack_for_scoring(
    config: SectionConfig, fabric: Fabric, model: nn.Module, criterion: WeightedCriteria
) -> None:
    """Pack a placed model and a test criterion, which runs in fp32 whatever the precision."""
    if not config.compile:
        pack_weights(criterion)
        if not computes_in_bf16(fabric):
            pack_weights(model)
