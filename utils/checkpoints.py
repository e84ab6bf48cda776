"""Checkpoint files: plain state dicts, written atomically, and how they fit a model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.files import write_atomically
from utils.weights import mismatches

_ENCODER = re.compile(r"encoders\.(\d+)\.model\.")
_HEAD = re.compile(r"encoders\.\d+\.model\.(head|fc_norm|norm)\.")


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Save what ``torch.load(weights_only=True)`` reads back, atomically."""
    write_atomically(path, lambda file: torch.save(dict(content), file))


def holds_encoder(state_dict: Mapping[str, Tensor], index: int) -> bool:
    """Whether a checkpoint has the frozen weights of encoder ``index``; a head does not count."""
    prefix = f"encoders.{index}.model."
    return any(name.startswith(prefix) and not _HEAD.match(name) for name in state_dict)


def load_model(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: Path) -> None:
    """Load a checkpoint of the trained parts, or of the whole model.

    A classifier head of a published file is ignored. The weights of an encoder that is not in the
    file stay as they are.

    Args:
        model: A :class:`models.autoencoder.QFormerAutoencoder`.
        state_dict: The checkpoint's content.
        source: Its path, for messages.

    Raises:
        UserError: Names are missing or unknown, shapes differ, or a value is not finite; the
            message lists the tensors with expected and found shapes.
    """
    own = model.state_dict()
    given = {
        name: tensor
        for name, tensor in state_dict.items()
        # Empty ones are the registers of a decoder that has none.
        if tensor.numel() and (name in own or not _HEAD.match(name))
    }
    wanted = {
        name: tensor
        for name, tensor in own.items()
        if name in given
        or not (encoder := _ENCODER.match(name))
        or holds_encoder(given, int(encoder[1]))
    }
    problems = mismatches(given, wanted)
    if problems:
        raise UserError(
            f"{source}: does not fit the configured model: {problems}. "
            "Use the config that it was trained with"
        )
    model.load_state_dict(given, strict=False)
