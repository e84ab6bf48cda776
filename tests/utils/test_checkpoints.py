"""Checkpoint files: what loads, what is refused and why."""

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.build import build_autoencoder
from engine.train.state import Progress, load_state, save_state
from models.autoencoder import QFormerAutoencoder
from tests.config_helpers import load_text, small_ini
from tests.utils.test_weights import StateDict, saved
from utils.config.schema import TrainingConfig
from utils.errors import UserError

ENCODER = "encoders.0.model."


@pytest.fixture
def config(tmp_path):
    return load_text(tmp_path, small_ini()).need_training()


@pytest.fixture
def model(config):
    """A model whose every trained number is its own."""
    torch.manual_seed(5)
    model = build_autoencoder(config)
    with torch.no_grad():
        for parameter in model.trained_parameters():
            parameter.normal_(std=0.05)
    return model


def refusal(config: TrainingConfig, file: Path) -> str:
    with pytest.raises(UserError) as caught:
        build_autoencoder(config, file)
    message = str(caught.value)
    assert str(file) in message
    assert message.isprintable()
    return message


def assert_equal_states(found: StateDict, expected: StateDict) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


HEAD = {
    f"{ENCODER}head.weight": torch.full((1000, 64), math.nan),
    f"{ENCODER}head.bias": torch.zeros(1000),
    f"{ENCODER}fc_norm.weight": torch.zeros(64),
}
ACCEPTED: dict[str, Callable[[QFormerAutoencoder], dict[str, Any]]] = {
    "trained parts": lambda model: model.trained_state_dict(),
    "whole": lambda model: model.state_dict(),
    "published, with its head": lambda model: model.state_dict() | HEAD,
    # No encoder: that comes from MODEL_WEIGHTS, and must not be left as it was made.
    "trained parts and a head": lambda model: model.trained_state_dict() | HEAD,
    "training state": lambda model: {"epoch": 3, "model": model.trained_state_dict()},
    "in a wrapper": lambda model: {"epoch": 3, "state_dict": model.trained_state_dict()},
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_what_holds_a_model_gives_the_same_model(tmp_path, config, model, content):
    for suffix in (".pth",) if "epoch" in content(model) else (".pth", ".safetensors"):
        again = build_autoencoder(config, saved(tmp_path, content(model), suffix))
        assert_equal_states(again.state_dict(), model.state_dict())


def test_a_full_checkpoint_needs_no_other_weights(tmp_path, config, model):
    state_dict = {name: tensor + 0.125 for name, tensor in model.state_dict().items()}
    elsewhere = config.model_copy(update={"model_weights": ("nowhere.pth",)})
    again = build_autoencoder(elsewhere, saved(tmp_path, state_dict))
    assert_equal_states(again.state_dict(), state_dict)


def test_a_norm_alone_is_no_encoder_and_must_fit(tmp_path, config, model):
    norm = {f"{ENCODER}norm.weight": torch.zeros(65)}
    message = refusal(config, saved(tmp_path, model.trained_state_dict() | norm))
    assert f"{ENCODER}norm.weight: expected (64,), found (65,)" in message
    assert "missing" not in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_load(tmp_path, config, model, dtype):
    state_dict = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    again = build_autoencoder(config, saved(tmp_path, state_dict)).state_dict()
    assert {tensor.dtype for tensor in again.values()} == {torch.float32}
    assert_equal_states(again, {name: tensor.float() for name, tensor in state_dict.items()})


QUERIES = "junction.queries"
BIAS = "decoder.decoder_prediction.bias"
MISFITS: dict[str, tuple[str, Tensor | None, str]] = {
    "missing": (QUERIES, None, f"{QUERIES}: missing, expected (1, 144, 48)"),
    "a trained layer of the encoder": (
        "encoders.0.final_projection.weight", None,
        "encoders.0.final_projection.weight: missing, expected (48, 64)"),
    "a tensor of the frozen encoder": (
        f"{ENCODER}blocks.3.norm1.weight", None,
        f"{ENCODER}blocks.3.norm1.weight: missing, expected (64,)"),
    "unknown": ("decoder.extra", torch.ones(2, 3), "decoder.extra: unknown, found (2, 3)"),
    "an encoder too many": ("encoders.1.model.cls_token", torch.ones(1, 1, 64),
                            "encoders.1.model.cls_token: unknown, found (1, 1, 64)"),
    "misshapen": (QUERIES, torch.ones(1, 143, 48),
                  f"{QUERIES}: expected (1, 144, 48), found (1, 143, 48)"),
    "a scalar": (BIAS, torch.tensor(1.0), f"{BIAS}: expected (192,), found ()"),
    "NaN": (BIAS, torch.full((192,), math.nan), f"{BIAS}: contains NaN or infinity"),
    "infinity": (BIAS, torch.full((192,), -math.inf), f"{BIAS}: contains NaN or infinity"),
    "too large for fp32": (BIAS, torch.full((192,), 1e300, dtype=torch.float64),
                           f"{BIAS}: contains NaN or infinity"),
    "integers": (BIAS, torch.ones(192, dtype=torch.int64),
                 f"{BIAS}: expected torch.float32, found torch.int64"),
    "truth values": (BIAS, torch.ones(192) > 0, "found torch.bool"),
    "complex numbers": (BIAS, torch.ones(192, dtype=torch.complex64), "found torch.complex64"),
    "eight bits": (BIAS, torch.ones(192).to(torch.float8_e4m3fn), "found torch.float8_e4m3fn"),
    "a sparse tensor": (BIAS, torch.ones(192).to_sparse(), "found torch.sparse_coo"),
    "no numbers": (BIAS, torch.ones(192, device="meta"), "on meta"),
    "a hostile name": ("a\nb\x1b[2J", torch.ones(1), "a\\nb\\x1b[2J: unknown, found (1,)"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "tensor", "said"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(tmp_path, config, model, name, tensor, said):
    state_dict = model.state_dict()
    state_dict.pop(name, None)
    if tensor is not None:
        state_dict[name] = tensor
    message = refusal(config, saved(tmp_path, state_dict))
    assert said in message
    assert "Use the config that it was trained with" in message


def test_many_misfits_are_counted(tmp_path, config, model):
    state_dict = {f"module.{name}": tensor for name, tensor in model.trained_state_dict().items()}
    message = refusal(config, saved(tmp_path, state_dict))
    assert message.count("missing") + message.count("unknown") == 8
    assert f"and {2 * len(state_dict) - 8} more" in message


class Payload:
    """Unpickled, it would touch a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.target}'",)


def pickled(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


HOSTILE: dict[str, tuple[Callable[[Any, Path], object], Callable[[Payload, StateDict], Any]]] = {
    "alone": (torch.save, lambda payload, _: payload),
    "as a value": (torch.save, lambda payload, tensors: tensors | {"x": payload}),
    "nested": (torch.save, lambda payload, tensors: {"model": tensors, "args": [{"a": payload}]}),
    "as a key": (torch.save, lambda payload, tensors: tensors | {payload: 1}),
    "a bare pickle": (pickled, lambda payload, _: payload),
    "a bare pickle of a dictionary": (pickled, lambda payload, _: {"x": payload}),
}


@pytest.mark.parametrize(("save", "place"), HOSTILE.values(), ids=HOSTILE)
def test_pickled_code_never_runs(tmp_path, config, model, save, place):
    target, file = tmp_path / "touched", tmp_path / "hostile.pth"
    save(place(Payload(target), model.trained_state_dict()), file)
    of_backbone = config.model_copy(update={"model_weights": (str(file),)})
    for load in (
        lambda: build_autoencoder(config, file),
        lambda: build_autoencoder(of_backbone),
        lambda: load_state(file, {}),
    ):
        with pytest.raises(UserError, match="pickled code, which is never run") as caught:
            load()
        assert "weights_only" not in str(caught.value)
    assert not target.exists()


def test_code_is_named_and_would_have_run(tmp_path, config):
    file = saved(tmp_path, Payload(tmp_path / "touched"))
    assert "it needs the Python object posix.system" in refusal(config, file)
    torch.load(file, weights_only=False)
    assert (tmp_path / "touched").exists()


def test_a_training_state_round_trip(tmp_path, model):
    progress = Progress(1, 0.75, [{"epoch": 1, "train_loss": 0.5, "val_image_auroc": None}])
    file = tmp_path / "checkpoints" / "training_state.pth"
    save_state(file, progress, {"LR": "1"}, {"model": model.trained_state_dict()})
    again, parts = load_state(file, {"LR": "1"})
    assert again == progress
    assert_equal_states(parts["model"], model.trained_state_dict())
    with pytest.raises(UserError, match="LR: was '1', is '2'"):
        load_state(file, {"LR": "2"})
