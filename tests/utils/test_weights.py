"""Weights of frozen backbones: local files as timm loads them, random ones, none to be had."""

import logging
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from engine.build import build_autoencoder
from models.backbone import create_backbone
from tests.config_helpers import THREE_ENCODERS, load_text, small_ini
from utils.errors import UserError
from utils.weights import native_state_dict

StateDict = dict[str, Tensor]


def state_dict_of(name: str, seed: int = 0, **arguments: Any) -> StateDict:
    """A seeded state dict of a timm model at its native size, its head included."""
    with torch.device("meta"):
        wanted = timm.create_model(name, **arguments).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        for key, tensor in wanted.items()
    }


def load(source: Path | str, name: str = "test_vit", seed: int = 1) -> StateDict:
    return native_state_dict(name, str(source), key="MODEL_WEIGHTS", cache_dir="cache", seed=seed)


def saved(folder: Path, content: object, suffix: str = ".pth") -> Path:
    file = folder / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(content, file)
    else:
        torch.save(content, file)
    return file


def refusal(source: Path | str, name: str = "test_vit") -> str:
    with pytest.raises(UserError) as caught:
        load(source, name)
    message = str(caught.value)
    assert message.isprintable()
    assert str(source) in message
    return message


# Name, size in pixels, patch size, suffix of the file.
RESAMPLED = [
    ("test_vit", 160, 16, ".pth"),
    ("test_vit", 96, 16, ".safetensors"),
    ("test_vit", 96, 8, ".pth"),
    ("test_vit", 224, 56, ".safetensors"),
    ("test_vit2", 96, 12, ".pth"),
    ("test_vit3", 64, 32, ".safetensors"),
    ("test_vit4", 96, 16, ".pth"),
    # DINOv3: rotary, no position embedding, four registers.
    ("vit_tiny_patch16_dinov3_qkvb", 96, 8, ".safetensors"),
    # EVA-02: rotary and a position embedding.
    ("eva02_tiny_patch14_224", 96, 16, ".pth"),
    # CLIP: a norm in front of the blocks, no bias in the patch embedding.
    ("vit_xsmall_patch16_clip_224", 112, 14, ".pth"),
]


@pytest.mark.parametrize(("name", "img_size", "patch_size", "suffix"), RESAMPLED)
def test_local_weights_are_resampled_as_timm_does(tmp_path, name, img_size, patch_size, suffix):
    file = saved(tmp_path, state_dict_of(name), suffix)
    ours = create_backbone(
        name, img_size=img_size, patch_size=patch_size, state_dict=load(file, name)
    )
    theirs = timm.create_model(
        name, pretrained=True, num_classes=0, img_size=img_size, patch_size=patch_size,
        pretrained_cfg_overlay={"file": str(file)},
    )  # fmt: skip
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_load_as_timm_does(tmp_path, dtype):
    content = {key: value.to(dtype) for key, value in state_dict_of("test_vit").items()}
    file = saved(tmp_path, content, ".safetensors")
    model = create_backbone("test_vit", img_size=160, patch_size=16, state_dict=load(file))
    for key, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, content[key].float()), key


# DINOv2, DINOv3 and MAE have no classifier: timm loads their weights strictly.
@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_dinov3_qkvb"])
def test_the_final_norm_and_the_head_are_of_no_account(tmp_path, name):
    content = state_dict_of(name, num_classes=0)
    del content["norm.weight"]
    content["norm.bias"] = torch.full((3,), math.nan)
    content |= {"head.weight": torch.ones(7, 3), "mask_token": torch.ones(1, 1, 5)}
    content |= {"fc_norm.weight": torch.ones(2), "decoder_blocks.0.norm1.weight": torch.ones(2)}
    loaded = load(saved(tmp_path, content), name)
    model = create_backbone(name, img_size=96, patch_size=16, state_dict=loaded)
    assert torch.equal(model.cls_token, content["cls_token"])


ONES = torch.ones(64)
NOT_FINITE = "contains NaN or infinity"
MISFITS: dict[str, tuple[Tensor, str]] = {
    "blocks.1.norm1.weight": (torch.ones(65), "expected (64,), found (65,)"),
    "blocks.2.norm1.weight": (torch.cat([ONES[1:], ONES[:1] * math.nan]), NOT_FINITE),
    "blocks.3.norm1.weight": (torch.cat([-math.inf * ONES[:1], ONES[1:]]), NOT_FINITE),
    "blocks.4.norm1.weight": (ONES.long(), "expected torch.float32, found torch.int64"),
    "blocks.5.norm1.weight": (1e300 * ONES.double(), NOT_FINITE),
    "blocks.6.norm1.weight": (ONES, "unknown, found (64,)"),
    "blocks.0.norm2.weight": (ONES.to_sparse(), "expected plain numbers, found torch.sparse_coo"),
}


def test_what_does_not_fit_is_named(tmp_path):
    content = state_dict_of("test_vit") | {name: tensor for name, (tensor, _) in MISFITS.items()}
    del content["blocks.0.attn.qkv.bias"]
    message = refusal(saved(tmp_path, content))
    said = ["blocks.0.attn.qkv.bias: missing, expected (192,)"]
    said += [f"{name}: {words}" for name, (_, words) in MISFITS.items()]
    for words in ("MODEL_WEIGHTS", "'test_vit', under timm's names", *said):
        assert words in message


POSITIONS = [(1, 101, 32), (1, 103, 64), (101, 64), (1, 1, 64), (1, 0, 64)]
PATCHES = [(64, 1, 16, 16), (32, 3, 16, 16), (64, 768), (64, 3, 0, 0)]


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        *(("pos_embed", shape) for shape in POSITIONS),
        *(("patch_embed.proj.weight", shape) for shape in PATCHES),
        ("patch_embed.proj.bias", (32,)),
        ("cls_token", (1, 2, 64)),
    ],
)
def test_embeddings_that_cannot_be_resampled_are_named(tmp_path, tensor, shape):
    content = state_dict_of("test_vit") | {tensor: torch.ones(shape)}
    message = refusal(saved(tmp_path, content))
    assert f"{tensor}: expected (" in message
    assert f"found {shape}" in message


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        # Wider, in another layout, narrower, with registers, no ViT at all.
        ("vit_tiny_patch16_224", "test_vit", "cls_token: expected (1, 1, 64), found (1, 1, 192)"),
        ("test_vit3", "test_vit", "cls_token: missing"),
        ("test_vit", "vit_tiny_patch16_224", "cls_token: expected (1, 1, 192), found (1, 1, 64)"),
        ("vit_tiny_patch16_dinov3_qkvb", "vit_tiny_patch16_224", "pos_embed: missing"),
        ("test_resnet", "test_vit", "cls_token: missing"),
    ],
)
def test_weights_of_another_architecture(tmp_path, given, wanted, said):
    message = refusal(saved(tmp_path, state_dict_of(given)), wanted)
    assert said in message
    assert f"'{wanted}'" in message


def test_tensors_that_the_architecture_lacks_are_no_small_matter(tmp_path):
    # A norm in front as in CLIP, layer scale as in DINOv2, a deeper model, a register.
    extras = ("norm_pre.weight", "blocks.0.ls3.gamma", "blocks.6.norm1.weight", "reg_token")
    content = state_dict_of("test_vit") | {name: torch.ones(64) for name in extras}
    message = refusal(saved(tmp_path, content))
    assert all(f"{name}: unknown, found (64,)" in message for name in extras)


def cut_short(share: float) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        saved(file.parent, state_dict_of("test_vit"), file.suffix).rename(file)
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])

    return write


def bomb(file: Path) -> None:
    """An archive that blows up when it is read; torch never compresses."""
    source = saved(file.parent, {"x": torch.zeros(1_000_000)})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
    assert file.stat().st_size < 40_000


def written(content):
    return lambda file: file.write_bytes(content)


def save(content):
    return lambda file: torch.save(content, file)


NO_TENSORS = "cannot be read as tensors"
UNREADABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("a.pth", lambda file: None,
                "is not a file; use the path of a .safetensors or .pth file"),
    "a folder": ("a.pth", Path.mkdir, "is not a file"),
    "too long a name": ("x" * 300, lambda file: None, "is not a file"),
    "empty": ("a.pth", written(b""), NO_TENSORS),
    "text": ("a.pth", written(b"<html>404</html>"), NO_TENSORS),
    "zeros": ("a.pth", written(b"\0" * 99), NO_TENSORS),
    "an empty zip": ("a.pth", written(b"PK\x05\x06" + b"\0" * 18), NO_TENSORS),
    "empty safetensors": ("a.safetensors", written(b""), NO_TENSORS),
    "a web page": ("a.safetensors", written(b"<html>404</html>"), NO_TENSORS),
    "a lie about its header": ("a.safetensors", written(b"\xff" * 7 + b"\x7f{}"), NO_TENSORS),
    "safetensors that is a pickle": ("a.safetensors", save({}), NO_TENSORS),
    **{f"{share} of {name}": (name, cut_short(share), "may be incomplete")
       for name in ("a.pth", "a.safetensors") for share in (0.1, 0.5, 0.999)},
    "a zip without tensors": (
        "a.pth", lambda file: zipfile.ZipFile(file, "w").writestr("x", "y"), NO_TENSORS),
    "a zip bomb": ("a.pth", bomb, "its archive is compressed"),
    "a whole model": ("a.pth", save(torch.nn.Linear(1, 1)), "pickled code, which is never run"),
    "a list": ("a.pth", save([torch.ones(1)]), "contains no state dict"),
    "numbers": ("a.pth", save({"x": 1}), "contains no state dict"),
    "nothing inside": ("a.pth", save({}), "contains no state dict"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "write", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_files(tmp_path, name, write, said):
    file = tmp_path / name
    write(file)
    message = refusal(file)
    assert said in message
    assert "weights_only=False" not in message


def test_what_a_file_says_stays_one_line(tmp_path):
    content = state_dict_of("test_vit") | {"a\nb\x1b[31m": torch.ones(1)}
    assert "a\\nb\\x1b[31m: unknown" in refusal(saved(tmp_path, content))


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path, state_dict_of("test_vit"))
    assert "cls_token" in load("~/weights.pth")


def test_random_weights_are_seeded_and_leave_the_global_generator_alone(caplog):
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        first, again, other = (load("random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["cls_token"], other["cls_token"])
    assert "MODEL_WEIGHTS = random: test_vit" in caplog.text
    assert "results are meaningless" in caplog.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_giant_patch16_gap_224.in22k_ijepa", "fetch https://dl.fbaipublicfiles.com/ijepa/"),
        ("vit_base_patch16_gap_224", "timm has no pretrained weights for"),
    ],
)
def test_weights_that_are_not_on_the_hub(monkeypatch, name, said):
    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match="MODEL_WEIGHTS: ") as caught:
        native_state_dict(name, "hub", key="MODEL_WEIGHTS", cache_dir="cache", seed=1)
    assert said in str(caught.value)
    assert "Hugging Face" not in str(caught.value)


def test_several_encoders_take_their_own_weights(tmp_path):
    names = THREE_ENCODERS["MODEL_NAME"].split(", ")
    given = {name: state_dict_of(name, seed) for seed, name in enumerate(names)}
    files = []
    for name, suffix in zip(names, (".pth", ".safetensors", ".pth"), strict=True):
        (tmp_path / name).mkdir()
        files.append(str(saved(tmp_path / name, given[name], suffix)))
    changes = THREE_ENCODERS | {"MODEL_WEIGHTS": ", ".join(files)}
    text = small_ini({f"TRAINING.{key}": value for key, value in changes.items()})
    model = build_autoencoder(load_text(tmp_path, text).need_training())
    for name, encoder in zip(names, model.encoders, strict=True):
        weight = encoder.model.blocks[0].attn.qkv.weight
        assert torch.equal(weight, given[name]["blocks.0.attn.qkv.weight"])
    # Two blocks of each: prefix token and patches.
    tokens = model.project(model.hidden_states(torch.zeros(2, 3, 96, 96)))
    assert tokens.shape == (2, 2 * ((1 + 36) + (1 + 144) + (1 + 9)), 48)
    assert model(torch.zeros(2, 3, 96, 96)).shape == (2, 3, 96, 96)
