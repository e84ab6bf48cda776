"""Which weights may be packed for the CPU's matrix products (models.linear.pack_weights).

Packed ones can be neither saved nor differentiated, and neither autocast nor compiled code takes
them: in testing and prediction alone.
"""

from __future__ import annotations

from lightning_fabric import Fabric
from torch import nn

from engine.runtime import computes_in_bf16
from models.criteria import WeightedCriteria
from models.linear import pack_weights
from utils.schema import SectionConfig


def pack_for_scoring(
    config: SectionConfig, fabric: Fabric, model: nn.Module, criterion: WeightedCriteria
) -> None:
    """Pack a placed model and a test criterion, which runs in fp32 whatever the precision."""
    if not config.compile:
        pack_weights(criterion)
        if not computes_in_bf16(fabric):
            pack_weights(model)
