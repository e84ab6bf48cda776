"""The Q-Former Autoencoder: frozen encoders, Q-Former bottleneck, pixel decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.decoder import PixelDecoder
from models.encoder import Encoder, HiddenStates
from models.qformer import QFormer


class QFormerAutoencoder(nn.Module):
    """Reconstructs an image from what learned queries gather from a frozen encoder's tokens.

    Args:
        encoders: Encoders whose tokens are concatenated along the token axis.
        junction: The Q-Former.
        decoder: The pixel decoder.
    """

    def __init__(
        self, encoders: Sequence[Encoder], junction: QFormer, decoder: PixelDecoder
    ) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleList(encoders)
        self.junction = junction
        self.decoder = decoder

    def hidden_states(self, images: Tensor) -> list[HiddenStates]:
        """(B, 3, H, W) normalised → outputs of the blocks of each frozen encoder."""
        return [encoder(images) for encoder in self.encoders]

    def project(self, states: Sequence[HiddenStates]) -> Tensor:
        """(B, N, D), the tokens of all encoders after their trained projections."""
        pairs = zip(self.encoders, states, strict=True)
        return torch.cat([encoder.project(each) for encoder, each in pairs], dim=1)

    def reconstruct(self, states: Sequence[HiddenStates]) -> Tensor:
        """From the outputs of the frozen encoders: (B, 3, H, W), normalised."""
        return self.decoder(self.junction(self.project(states)))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised → reconstruction of the same shape."""
        return self.reconstruct(self.hidden_states(images))

    def patch_tokens(self, states: Sequence[HiddenStates]) -> list[Tensor]:
        """For each encoder (B, patches, D), see :meth:`models.encoder.Encoder.patch_tokens`."""
        pairs = zip(self.encoders, states, strict=True)
        return [encoder.patch_tokens(each) for encoder, each in pairs]

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """What the optimizer sees; the frozen encoders and the position embedding are left out."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def drop_unused_blocks(self) -> None:
        """Free encoder blocks that never run; the full state dict can no longer be saved."""
        for encoder in self.encoders:
            encoder.drop_unused_blocks()

    def share_encoders(self, other: QFormerAutoencoder) -> bool:
        """Use another model's frozen encoders instead of equal ones; False if they differ."""
        pairs = list(zip(self.encoders, other.encoders, strict=True))
        for own, given in pairs:
            weights, expected = own.model.state_dict(), given.model.state_dict()
            if any(not torch.equal(weights[name], each) for name, each in expected.items()):
                return False
        for own, given in pairs:
            own.model = given.model
        return True

    def trained_state_dict(self) -> dict[str, Tensor]:
        """The state dict without the frozen encoders, names as in the whole one."""
        return {
            name: tensor for name, tensor in self.state_dict().items() if not is_frozen_name(name)
        }


def is_frozen_name(name: str) -> bool:
    """Whether a state-dict name belongs to a frozen encoder, ``encoders.{i}.model.*``."""
    return name.startswith("encoders.") and ".model." in name
