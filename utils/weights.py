"""Weights of frozen backbones: from the hub, from a local file, or seeded random."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor

from utils.errors import UserError

logger = logging.getLogger(__name__)

HUB = "hub"
RANDOM = "random"

_UNUSED = ("norm.", "fc_norm.", "head.", "attn_pool.")
_RESAMPLED = ("patch_embed.", "pos_embed")


def read_content(path: Path) -> Any:
    """What a .safetensors or .pth file holds; pickled code is never run.

    Raises:
        UserError: The file is missing or unreadable, or holds code.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged or hostile file makes the readers raise nearly anything.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: cannot be read as tensors ({reason}); it may be cut short, or hold pickled "
            "code, which is never run. Get it anew, or save its state dict with safetensors"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors or .pth file.

    Raises:
        UserError: As for :func:`read_content`, or the file holds something else.
    """
    content = read_content(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): item for name, item in content.items() if isinstance(item, Tensor)}
    if not tensors:
        raise UserError(f"{path}: holds no state dict (names and tensors)")
    return tensors


def native_state_dict(
    name: str, source: str, *, key: str, cache_dir: str, seed: int
) -> dict[str, Tensor]:
    """Weights of a timm model at its native size, in timm's names.

    Args:
        name: timm tag.
        source: ``hub``, ``random``, or the path of a file.
        key: The INI key that named the source, for messages.
        cache_dir: Folder that hub downloads are kept in.
        seed: Seed of random weights.

    Raises:
        UserError: The weights cannot be had, or lack tensors of the model.
    """
    if source == RANDOM:
        logger.warning("%s = random: %s has random weights; results mean nothing", key, name)
        return _random(name, seed)
    if source == HUB:
        return _from_hub(name, key=key, cache_dir=cache_dir)
    tensors = read_tensors(Path(source).expanduser())
    _check_fits(name, tensors, source=source, key=key)
    return tensors


def _random(name: str, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=0).state_dict()


def _from_hub(name: str, *, key: str, cache_dir: str) -> dict[str, Tensor]:
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, cache_dir=cache_dir)
    except Exception as error:
        # Hub clients raise whatever their transport raises: every kind means "not to be had".
        raise UserError(_how_to_fetch(name, key, cache_dir, error)) from error
    return model.state_dict()


def _how_to_fetch(name: str, key: str, cache_dir: str, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        return f"timm has no pretrained weights for '{name}'; set {key} to a file, or to random"
    repository = config.hf_hub_id or config.url
    if repository == "timm/":
        repository = f"timm/{name}"
    return (
        f"the weights of '{name}' are neither in {cache_dir} nor could they be downloaded "
        f"({reason}). On a machine with internet, fetch model.safetensors of the Hugging Face "
        f"repository '{repository}', copy it here, and name it: {key} = /path/to/model.safetensors"
    )


def _check_fits(name: str, tensors: Mapping[str, Tensor], *, source: str, key: str) -> None:
    """Every tensor has to be there in the model's shape.

    Patch and position embeddings may have another size, since they are resampled; the final norm
    and the head are not used.
    """
    with torch.device("meta"):
        wanted = timm.create_model(name, num_classes=0).state_dict()
    problems = []
    for tensor_name, tensor in wanted.items():
        found = tensors.get(tensor_name)
        if found is None:
            if not tensor_name.startswith(_UNUSED):
                problems.append(f"{tensor_name}: missing")
        elif found.shape != tensor.shape and not tensor_name.startswith(_RESAMPLED):
            shapes = f"expected {tuple(tensor.shape)}, found {tuple(found.shape)}"
            problems.append(f"{tensor_name}: {shapes}")
        elif not found.isfinite().all():
            problems.append(f"{tensor_name}: holds NaN or infinity")
    if problems:
        raise UserError(
            f"{key}: {source} does not hold the weights of '{name}' in timm's names: "
            + summary(problems)
        )


def summary(problems: list[str], most: int = 8) -> str:
    """The first problems in one line, and how many more there are."""
    rest = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + rest
