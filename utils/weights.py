"""Weights of frozen backbones: from the hub, from a local file, or seeded random."""

import difflib
import logging
import math
import re
import sys
import zipfile
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import Tensor

from utils.errors import UserError, printable
from utils.hub import HubFile, fetch

logger = logging.getLogger(__name__)

HUB = "hub"
RANDOM = "random"

# Layers after the last block and leftovers of pretraining, unused here.
_UNUSED = re.compile(
    r"(norm|fc_norm|head|head_dist|fc|attn_pool|pre_logits|rope)\.|mask_token$|decoder_"
)
# Prefixes that training programs put before a name, from the outside in.
_PREFIXES = ("_orig_mod.", "module.", "teacher.", "module.", "backbone.")
# Problems that a message names one by one.
_SHOWN = 8
# Types that can be cast to the model's own without changing their meaning.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_content(path: Path) -> Any:
    """The content of a .safetensors or .pth file; pickled code is never run.

    Raises:
        UserError: The file is missing or unreadable, or contains code.
    """
    if not is_file(path):
        raise UserError(f"{path}: no such file; use the path of a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        _refuse_compression(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # A damaged or hostile file makes the readers raise nearly anything.
        raise UserError(
            f"{path}: cannot be read as tensors ({_reason(error)}); it may be incomplete, or "
            "contain pickled code, which is never run. Download it again, or save its state dict "
            "with safetensors"
        ) from error


def is_file(path: Path) -> bool:
    """Whether a file exists; False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def _refuse_compression(path: Path) -> None:
    # torch never compresses: a small file that unpacks to gigabytes is not from torch.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its archive is compressed")


def _reason(error: Exception) -> str:
    """What a reader complains about, without its advice to allow code."""
    text = str(error)
    foreign = re.search(r"GLOBAL (\S+)", text)
    if foreign:
        return printable(f"it needs the Python object {foreign[1]}")
    return printable((text or type(error).__name__).splitlines()[0].partition(". ")[0])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors or .pth file.

    Raises:
        UserError: As for :func:`read_content`, or the file contains something else.
    """
    content = read_content(path)
    for wrapper in ("state_dict", "model", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): item for name, item in content.items() if isinstance(item, Tensor)}
    if not tensors:
        raise UserError(f"{path}: contains no state dict (names and tensors)")
    return tensors


def native_state_dict(
    name: str, source: str | HubFile, *, key: str, cache_dir: Path, seed: int
) -> dict[str, Tensor]:
    """Weights of a timm model at its native size, in timm's names.

    Args:
        name: timm tag.
        source: ``hub``, ``random``, a file of the hub, or the path of one.
        key: The INI key that named the source, for messages.
        cache_dir: Folder for downloads.
        seed: Seed of random weights.

    Raises:
        UserError: The weights cannot be loaded, or lack tensors of the model.
    """
    if source == RANDOM:
        logger.warning("%s = random: %s has random weights; results are meaningless", key, name)
        return _random(name, seed)
    if source == HUB:
        config: Any = timm.get_pretrained_cfg(name)
        if config is None or not config.hf_hub_id:
            return _from_url(name, config and config.url, key=key, cache_dir=cache_dir)
        source = HubFile(config.hf_hub_id, "model.safetensors")
    if isinstance(source, HubFile):
        file = fetch(source, key=key, cache_dir=cache_dir)
    else:
        file = Path(source).expanduser()
        if not is_file(file):
            raise UserError(
                f"{key}: {source} is not a file; use the path of a .safetensors or .pth file"
            )
    return _fitting(name, read_tensors(file), source=source, ini_key=key)


def _random(name: str, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=0).state_dict()


def _from_url(name: str, url: str | None, *, key: str, cache_dir: Path) -> dict[str, Tensor]:
    """Weights that timm does not keep on the hub, and in few cases elsewhere."""
    if not url:
        raise UserError(
            f"{key}: timm has no pretrained weights for '{name}'; set it to a file, or to random"
        )
    try:
        return timm.create_model(
            name, pretrained=True, num_classes=0, cache_dir=str(cache_dir)
        ).state_dict()
    except Exception as error:
        raise UserError(
            f"{key}: the weights of '{name}' could not be downloaded ({_reason(error)}). On a "
            f"machine with internet, fetch {url}, save its tensors in timm's names, copy them "
            f"here, and set {key} = /path/to/model.safetensors"
        ) from error


def _fitting(
    name: str, tensors: Mapping[str, Tensor], *, source: str | HubFile, ini_key: str
) -> dict[str, Tensor]:
    """A file's tensors for each name of the model; zeros for unused ones that do not fit.

    Patch and position embeddings may differ in size, since they are resampled.

    Raises:
        UserError: Tensors are missing, unknown, or do not fit the model's.
    """
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    wanted = {key: tensor for key, tensor in model.state_dict().items() if not _UNUSED.match(key)}
    tensors = _in_timm_names(tensors, model, wanted.keys())
    asked = {
        key: torch.empty(tensors[key].shape, dtype=tensor.dtype, device="meta")
        if key in tensors and _can_be_resampled(key, tensors[key], model)
        else tensor
        for key, tensor in wanted.items()
    }
    problems = mismatches(
        {key: tensor for key, tensor in tensors.items() if key in wanted or not _UNUSED.match(key)},
        asked,
    )
    if problems:
        raise UserError(
            f"{ini_key}: {source} does not contain the weights of '{name}', under timm's names or "
            f"their authors' own: {problems}"
        )
    return {
        key: tensors[key]
        if key in wanted or not _misfit(tensors.get(key), tensor)
        # timm asks for all names of some models.
        else torch.zeros(tensor.shape)
        for key, tensor in model.state_dict().items()
    }


def _in_timm_names(
    tensors: Mapping[str, Tensor], model: Any, wanted: Collection[str]
) -> Mapping[str, Tensor]:
    """The tensors of a file as its authors publish it, converted by timm if needed.

    The conversion also resamples embeddings of a different size to the native one.
    """
    for prefix in _PREFIXES:
        # Other entries are the student and pretraining heads.
        inside = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        tensors = inside or tensors
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or all(name in tensors for name in wanted):
        return tensors
    try:
        # timm prints what a model lacks, and removes names from the dictionary.
        with redirect_stdout(None):
            converted = convert(dict(tensors), model)
    except Exception:
        # timm does not know this file and raises anything: its own names show what it lacks.
        return tensors
    # timm drops DINOv3's biases if the model has none; only zeros may be dropped.
    converted |= {
        name: bias
        for name, bias in tensors.items()
        if name.endswith("attn.qkv.bias")
        and not {name, name.replace("qkv.bias", "q_bias")} & converted.keys()
        and bias.any()
    }
    return max(tensors, converted, key=lambda names: sum(name in names for name in wanted))


def _can_be_resampled(name: str, found: Tensor, model: Any) -> bool:
    """Whether timm resamples a tensor of this shape to the model's."""
    shape = found.shape
    if name == "patch_embed.proj.weight":
        wanted = model.patch_embed.proj.weight.shape
        return len(shape) == 4 and shape[:2] == wanted[:2] and min(shape) > 0
    if name == "pos_embed":
        # (1, [prefix +] side², D)
        wanted = model.pos_embed.shape
        patches = shape[1] - (wanted[1] - model.patch_embed.num_patches) if len(shape) == 3 else 0
        square = patches > 0 and math.isqrt(patches) ** 2 == patches
        return square and (shape[0], shape[2]) == (wanted[0], wanted[2])
    return False


def mismatches(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Why tensors cannot replace a model's, in one line; "" if they can.

    Names the first ones; missing and unknown ones with the nearest names.
    """
    problems = {name: _misfit(given.get(name), tensor) for name, tensor in wanted.items()}
    problems = {name: problem for name, problem in problems.items() if problem}
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    problems |= {name: f"unknown, found {tuple(given[name].shape)}" for name in unknown}
    told = []
    for name in list(problems)[:_SHOWN]:
        among = unknown or given if name in missing else missing or wanted
        near = []
        if name in missing or name in unknown:
            near = difflib.get_close_matches(name, among, n=3, cutoff=0.0)
        nearest = f" (nearest: {', '.join(near)})" if near else ""
        told.append(f"{name}: {problems[name]}{nearest}")
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return printable("; ".join(told)) + more


def _misfit(found: Tensor | None, wanted: Tensor) -> str:
    """Why a tensor cannot replace another, or ""."""
    if found is None:
        return f"missing, expected {tuple(wanted.shape)}"
    if found.shape != wanted.shape:
        return f"expected {tuple(wanted.shape)}, found {tuple(found.shape)}"
    floats = wanted.is_floating_point() and found.dtype in _FLOATS
    if not floats and found.dtype != wanted.dtype:
        return f"expected {wanted.dtype}, found {found.dtype}"
    if found.layout != torch.strided or found.is_meta:
        return f"expected plain numbers, found {found.layout} on {found.device}"
    # Cast first: a number may be finite in the file but too large for the model.
    return "" if found.to(wanted.dtype).isfinite().all() else "contains NaN or infinity"
