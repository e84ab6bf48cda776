"""Checkpoint files: what loads, what is refused and why, and that writing never loses a file."""

from __future__ import annotations

import errno
import io
import math
import os
import pickle
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from engine.build import build_autoencoder
from engine.train.state import Progress, load_state, save_state
from models.autoencoder import QFormerAutoencoder
from tests.config_helpers import load_text, small_ini
from utils import checkpoints
from utils.checkpoints import holds_encoder, save_tensors, write_atomically, write_text
from utils.config.schema import TrainingConfig
from utils.errors import UserError

StateDict = dict[str, Tensor]
ENCODER = "encoders.0.model."


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return load_text(tmp_path, small_ini()).need_training()


@pytest.fixture
def model(config: TrainingConfig) -> QFormerAutoencoder:
    """A model whose every trained number is its own."""
    torch.manual_seed(5)
    model = build_autoencoder(config)
    with torch.no_grad():
        for parameter in model.trained_parameters():
            parameter.normal_(std=0.05)
    return model


def saved(folder: Path, content: object, suffix: str = ".pth") -> Path:
    file = folder / f"checkpoint{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(content, file)
    else:
        torch.save(content, file)
    return file


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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["trained", "full"])
def test_both_kinds_give_the_same_model(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder, content: str, suffix: str
) -> None:
    state_dict = model.trained_state_dict() if content == "trained" else model.state_dict()
    assert holds_encoder(state_dict, 0) == (content == "full")
    again = build_autoencoder(config, saved(tmp_path, state_dict, suffix))
    assert_equal_states(again.state_dict(), model.state_dict())
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.eval()(images), model.eval()(images))


def test_a_full_checkpoint_needs_no_other_weights(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder
) -> None:
    state_dict = {name: tensor + 0.125 for name, tensor in model.state_dict().items()}
    elsewhere = config.model_copy(update={"model_weights": ("nowhere.pth",)})
    again = build_autoencoder(elsewhere, saved(tmp_path, state_dict))
    assert_equal_states(again.state_dict(), state_dict)


def test_a_published_file_with_its_head(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder
) -> None:
    head = {
        f"{ENCODER}head.weight": torch.full((1000, 64), math.nan),
        f"{ENCODER}head.bias": torch.zeros(1000),
        f"{ENCODER}fc_norm.weight": torch.zeros(64),
    }
    again = build_autoencoder(config, saved(tmp_path, model.state_dict() | head))
    assert_equal_states(again.state_dict(), model.state_dict())


def test_a_head_alone_is_no_encoder(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder
) -> None:
    head = {f"{ENCODER}head.weight": torch.zeros(1000, 64)}
    assert not holds_encoder(head, 0)
    # The encoder comes from MODEL_WEIGHTS; it must not be left as it was made.
    again = build_autoencoder(config, saved(tmp_path, model.trained_state_dict() | head))
    assert_equal_states(again.state_dict(), model.state_dict())


def test_a_norm_alone_is_no_encoder_and_must_fit(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder
) -> None:
    norm = {f"{ENCODER}norm.weight": torch.zeros(65)}
    message = refusal(config, saved(tmp_path, model.trained_state_dict() | norm))
    assert f"{ENCODER}norm.weight: expected (64,), found (65,)" in message
    assert "missing" not in message


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_a_training_state_is_a_checkpoint_too(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder, wrapper: str
) -> None:
    file = saved(tmp_path, {"epoch": 3, wrapper: model.trained_state_dict()})
    assert_equal_states(build_autoencoder(config, file).state_dict(), model.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_load(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder, dtype: torch.dtype
) -> None:
    state_dict = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    again = build_autoencoder(config, saved(tmp_path, state_dict)).state_dict()
    assert {tensor.dtype for tensor in again.values()} == {torch.float32}
    assert_equal_states(again, {name: tensor.float() for name, tensor in state_dict.items()})


QUERIES = "junction.queries"
BIAS = "decoder.decoder_prediction.bias"
MISFITS: dict[str, tuple[str, Tensor | None, str]] = {
    "missing": (QUERIES, None, f"{QUERIES}: missing, expected (1, 144, 48)"),
    "a trained layer of the encoder": (
        "encoders.0.final_projection.weight",
        None,
        "encoders.0.final_projection.weight: missing, expected (48, 64)",
    ),
    "a tensor of the frozen encoder": (
        f"{ENCODER}blocks.3.norm1.weight",
        None,
        f"{ENCODER}blocks.3.norm1.weight: missing, expected (64,)",
    ),
    "unknown": ("decoder.extra", torch.ones(2, 3), "decoder.extra: unknown, found (2, 3)"),
    "an encoder too many": (
        "encoders.1.model.cls_token",
        torch.ones(1, 1, 64),
        "encoders.1.model.cls_token: unknown, found (1, 1, 64)",
    ),
    "misshapen": (
        QUERIES,
        torch.ones(1, 143, 48),
        f"{QUERIES}: expected (1, 144, 48), found (1, 143, 48)",
    ),
    "a scalar": (BIAS, torch.tensor(1.0), f"{BIAS}: expected (192,), found ()"),
    "NaN": (BIAS, torch.full((192,), math.nan), f"{BIAS}: holds NaN or infinity"),
    "infinity": (BIAS, torch.full((192,), -math.inf), f"{BIAS}: holds NaN or infinity"),
    "too large for fp32": (
        BIAS,
        torch.full((192,), 1e300, dtype=torch.float64),
        f"{BIAS}: holds NaN or infinity",
    ),
    "integers": (
        BIAS,
        torch.ones(192, dtype=torch.int64),
        f"{BIAS}: expected torch.float32, found torch.int64",
    ),
    "truth values": (BIAS, torch.ones(192) > 0, "found torch.bool"),
    "complex numbers": (BIAS, torch.ones(192, dtype=torch.complex64), "found torch.complex64"),
    "eight bits": (BIAS, torch.ones(192).to(torch.float8_e4m3fn), "found torch.float8_e4m3fn"),
    "a sparse tensor": (BIAS, torch.ones(192).to_sparse(), "found torch.sparse_coo"),
    "no numbers": (BIAS, torch.ones(192, device="meta"), "on meta"),
    "a hostile name": ("a\nb\x1b[2J", torch.ones(1), "a\\nb\\x1b[2J: unknown, found (1,)"),
}


@pytest.mark.parametrize(("name", "tensor", "said"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_named(
    tmp_path: Path,
    config: TrainingConfig,
    model: QFormerAutoencoder,
    name: str,
    tensor: Tensor | None,
    said: str,
) -> None:
    state_dict = model.state_dict()
    state_dict.pop(name, None)
    if tensor is not None:
        state_dict[name] = tensor
    message = refusal(config, saved(tmp_path, state_dict))
    assert said in message
    assert "Use the config that it was trained with" in message


def test_many_misfits_are_counted(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder
) -> None:
    state_dict = {f"module.{name}": tensor for name, tensor in model.trained_state_dict().items()}
    message = refusal(config, saved(tmp_path, state_dict))
    assert message.count("missing") + message.count("unknown") == 8
    assert f"and {2 * len(state_dict) - 8} more" in message


def test_a_refused_checkpoint_changes_nothing(tmp_path: Path, model: QFormerAutoencoder) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state_dict = {name: tensor + 1 for name, tensor in before.items()} | {"x": torch.ones(1)}
    with pytest.raises(UserError, match="x: unknown"):
        checkpoints.load_model(model, state_dict, source=tmp_path)
    assert_equal_states(model.state_dict(), before)


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


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest, tmp_path: Path, model: Any) -> Iterator[Path]:
    """A file that would run code if it were unpickled; checks that it did not."""
    save, place = HOSTILE[request.param]
    target, file = tmp_path / "touched", tmp_path / "hostile.pth"
    save(place(Payload(target), model.trained_state_dict()), file)
    yield file
    assert not target.exists()


def test_the_payload_would_work(tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "touched"), tmp_path / "hostile.pth")
    torch.load(tmp_path / "hostile.pth", weights_only=False)
    assert (tmp_path / "touched").exists()


def test_pickled_code_in_a_checkpoint_never_runs(config: TrainingConfig, hostile: Path) -> None:
    message = refusal(config, hostile)
    assert "pickled code, which is never run" in message
    assert "weights_only" not in message


def test_pickled_code_in_backbone_weights_never_runs(config: TrainingConfig, hostile: Path) -> None:
    update = {"model_weights": (str(hostile),)}
    with pytest.raises(UserError, match="pickled code, which is never run"):
        build_autoencoder(config.model_copy(update=update))


def test_pickled_code_in_a_training_state_never_runs(hostile: Path) -> None:
    with pytest.raises(UserError, match="pickled code, which is never run"):
        load_state(hostile, {})


def test_the_message_names_the_code_that_a_file_asks_for(
    tmp_path: Path, config: TrainingConfig
) -> None:
    file = saved(tmp_path, Payload(tmp_path / "touched"))
    assert "it asks for posix.system" in refusal(config, file)


def test_a_training_state_round_trip(tmp_path: Path, model: QFormerAutoencoder) -> None:
    progress = Progress(1, 0.75, [{"epoch": 1, "train_loss": 0.5, "val_image_auroc": None}])
    file = tmp_path / "checkpoints" / "training_state.pth"
    save_state(file, progress, {"LR": "1"}, {"model": model.trained_state_dict()})
    again, parts = load_state(file, {"LR": "1"})
    assert again == progress
    assert_equal_states(parts["model"], model.trained_state_dict())
    with pytest.raises(UserError, match="LR: was '1', is '2'"):
        load_state(file, {"LR": "2"})


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_were_cut_short(
    tmp_path: Path, config: TrainingConfig, model: QFormerAutoencoder, part: float, suffix: str
) -> None:
    file = saved(tmp_path, model.trained_state_dict(), suffix)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    assert "cut short" in refusal(config, file)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 99, b"<html>404</html>", b"PK\x05\x06" + b"\0" * 18]
)
def test_files_of_another_kind(tmp_path: Path, config: TrainingConfig, content: bytes) -> None:
    for suffix in (".pth", ".safetensors"):
        file = tmp_path / f"checkpoint{suffix}"
        file.write_bytes(content)
        assert "cannot be read as tensors" in refusal(config, file)


# --- Writing ------------------------------------------------------------------------------------


class FullDisk(io.RawIOBase):
    """Passes writes on until the disk is full."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self.file = file
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return self.file.write(data)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    """A file that stands there before; checks that it stands there after, and nothing else."""
    file = tmp_path / "run" / "last_ckpt.pth"
    file.parent.mkdir()
    file.write_bytes(b"old")
    yield file
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("room", [0, 100, 4000])
def test_a_full_disk_leaves_the_old_file(old: Path, room: int) -> None:
    content = {"x": torch.ones(10_000)}
    with pytest.raises(UserError, match=r"cannot be written.*is intact") as caught:
        write_atomically(old, lambda file: torch.save(content, FullDisk(file, room)))
    assert str(old) in str(caught.value)


def test_a_disk_that_is_full_at_the_last_moment(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="No space left on device"):
        save_tensors(old, {"x": torch.ones(2)})


def test_content_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    seen = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        seen.append((os.fstat(descriptor).st_size, file.read_text(encoding="utf-8")))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(file, "new content")
    assert seen == [(11, "old")]
    assert file.read_text(encoding="utf-8") == "new content"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_interrupt_while_writing_leaves_the_old_file(
    old: Path, error: type[BaseException]
) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_atomically(old, write)


def test_an_interrupt_before_the_rename_leaves_the_old_file(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write_text(old, "new")


def test_a_folder_that_may_not_be_written(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old.parent.chmod(0o555)
    # The superuser may write anywhere: become nobody for a moment.
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"cannot be written.*Permission denied"):
            write_text(old, "new")
    finally:
        os.seteuid(user)
        old.parent.chmod(0o755)


@pytest.mark.parametrize("name", ["last_ckpt.pth/below", "last_ckpt.pth/a/b", "x" * 300])
def test_places_where_no_file_can_be(old: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_text(old.parent / name, "new")


def test_a_folder_stands_in_the_way(old: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written.*Is a directory"):
        write_text(old.parent, "new")
    assert list(old.parent.parent.glob(".*")) == []


def test_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "ü")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "ü".encode()


def test_text_may_name_files_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"Sch\xe4del.png")
    write_text(tmp_path / "scores.csv", f"path\n{name}\n")
    assert (tmp_path / "scores.csv").read_bytes() == b"path\nSch\xe4del.png\n"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "a.pth", {"x": torch.ones(2)})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.pth").stat().st_mode) == mode


def test_the_umask_is_never_open_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(_: int) -> int:
        pytest.fail("the umask belongs to all threads of the process")

    monkeypatch.setattr(os, "umask", umask)
    write_text(tmp_path / "a.txt", "x")


def test_what_is_saved_loads_equal(tmp_path: Path, model: QFormerAutoencoder) -> None:
    file = tmp_path / "a.pth"
    save_tensors(file, model.trained_state_dict())
    assert_equal_states(torch.load(file, weights_only=True), model.trained_state_dict())
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
