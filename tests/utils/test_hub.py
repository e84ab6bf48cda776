"""hf:// addresses: found, kept, recorded, and what is said where they cannot be had."""

import errno
import io
import json
import logging
import os
import re
from configparser import ConfigParser
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
from huggingface_hub import constants

from engine.build import build_autoencoder
from engine.train.start import train
from tests.config_helpers import problems_of, small_ini
from tests.processes import python, run_here
from tests.stand_in_hub import TOKEN, stand_in_hub
from tests.utils.test_weights import state_dict_of
from utils.errors import UserError
from utils.hub import HubFile, fetch

REPO, PATH = "them/model", "brain/last.pth"
ADDRESS = f"hf://{REPO}/{PATH}"
CONTENT = bytes(range(256)) * 400


@pytest.fixture
def hub(monkeypatch):
    """A hub with two repositories' worth of files, which this process takes for Hugging Face's."""
    with stand_in_hub() as hub:
        hub.files[REPO] = {PATH: CONTENT, "README.md": b"read me", "chest/last.pth": b"x"}
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.endpoint)
        yield hub


def fetched(address: str, cache: Path) -> Path:
    return fetch(HubFile.parse(address), key="CHECKPOINT_PATH", cache_dir=str(cache))


def refusal(address: str, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetched(address, cache)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "file"),
    [
        (ADDRESS, HubFile(REPO, PATH)),
        ("hf://a/b-c.d_e/f.pth@v1", HubFile("a/b-c.d_e", "f.pth", "v1")),
        ("hf://a/b/c/d/e f.pth@refs/pr/1", HubFile("a/b", "c/d/e f.pth", "refs/pr/1")),
    ],
)
def test_addresses(address, file):
    assert HubFile.parse(address) == file
    assert str(file) == address


@pytest.mark.parametrize(
    "address", ["hf://", "hf://a", "hf://a/b", "hf://a/b/", "hf://a/b/c@", "hf:///b/c", "a/b/c"]
)
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="owner/repo/path"):
        HubFile.parse(address)


@pytest.mark.parametrize(
    "place",
    [
        "TRAINING.MODEL_WEIGHTS", "TRAINING.PERCEPTUAL_WEIGHTS", "TRAINING.MODEL_CKPT_PATH",
        "TESTING.CHECKPOINT_PATH",
    ],
)  # fmt: skip
def test_keys_take_addresses(tmp_path, place):
    assert problems_of(tmp_path, small_ini({place: ADDRESS})) == []
    (problem,) = problems_of(tmp_path, small_ini({place: "hf://them/model"}))
    assert f"{problem.section}.{problem.key}" == place
    assert "hf://owner/repo/path[@revision]" in problem.text


def test_a_file_is_downloaded_once_and_kept(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = fetched(ADDRESS, Path("~/cache"))
    assert file.read_bytes() == CONTENT
    assert tmp_path / "cache" in file.parents
    assert fetched(ADDRESS, tmp_path / "cache") == file
    assert [method for method, path, _ in hub.requests if "resolve" in path].count("GET") == 1
    # A commit never changes: nobody is asked.
    hub.requests.clear()
    assert fetched(f"{ADDRESS}@{hub.commit}", tmp_path / "cache") == file
    assert hub.requests == []
    del hub.files[REPO][PATH]
    assert "has no file 'brain/last.pth'" in refusal(ADDRESS, tmp_path / "cache")


def test_a_download_that_broke_off_is_gone_on_with(hub, tmp_path):
    # The client keeps what has come in pieces of ten megabytes.
    hub.files[REPO][PATH] = content = CONTENT * 240
    hub.cut = True
    assert fetched(ADDRESS, tmp_path).read_bytes() == content
    assert "bytes=10485760-" in {asked for _, _, asked in hub.requests}


def test_a_token_opens_a_gated_repository(hub, tmp_path, monkeypatch):
    hub.gated.add(REPO)
    message = refusal(ADDRESS, tmp_path)
    assert f"CHECKPOINT_PATH: {hub.endpoint}/{REPO} is gated" in message
    assert "HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetched(ADDRESS, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "hf://them/model/resc/last.pth",
            f"{REPO} has no file 'resc/last.pth'; it has {PATH}, README.md, chest/last.pth",
        ),
        ("hf://them/other/a.pth", "has no repository 'them/other', or it is private"),
        (f"{ADDRESS}@v9", f"{REPO} has no revision 'v9'"),
    ],
)
def test_what_the_hub_does_not_have(hub, tmp_path, address, said):
    message = refusal(address, tmp_path)
    assert message.startswith("CHECKPOINT_PATH: ")
    assert said in message


@pytest.mark.parametrize("how", ["silence", "no hub", "offline"])
def test_without_network_the_cached_file_is_used(hub, tmp_path, monkeypatch, how):
    file = fetched(ADDRESS, tmp_path / "full")
    monkeypatch.setattr("utils.hub._SECONDS_TO_ANSWER", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", how == "offline")
    hub.mute = how == "silence"
    if how == "no hub":
        # Nothing listens on this port.
        address = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    assert fetched(ADDRESS, tmp_path / "full") == file
    message = refusal(ADDRESS, tmp_path)
    for words in (
        f"CHECKPOINT_PATH: {ADDRESS} is not in CACHE_DIR = {tmp_path} and could not be",
        f"fetch {hub.endpoint}/{REPO}/resolve/main/{PATH}",
        "set CHECKPOINT_PATH = /path/to/last.pth",
    ):
        assert words in message


def test_no_room_for_a_file(hub, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").touch()
    assert "cannot be saved there (Not a directory)" in refusal(ADDRESS, tmp_path / "file")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    message = refusal(ADDRESS, tmp_path)
    assert f"CACHE_DIR = {tmp_path}: {ADDRESS}" in message
    assert "No space left on device" in message


def as_file(content: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def served(hub, tiny):
    """A hub with a checkpoint and a backbone for the tiny config."""
    model = build_autoencoder(tiny().need_training())
    weights = state_dict_of("test_vit")
    hub.files[REPO] = {PATH: as_file(model.state_dict()), "vit.pth": as_file(weights)}
    hub.files["timm/test_vit.r160_in1k"] = {"model.safetensors": safetensors.torch.save(weights)}
    return hub


@pytest.fixture
def call(monkeypatch, tmp_path, caplog):
    """Runs a script with settings and options; what it says is in ``caplog``."""
    caplog.set_level(logging.INFO)

    def run(script, settings, *options):
        settings = [f"CACHE_DIR={tmp_path}/cache", *settings]
        sets = [part for each in settings for part in ("--set", each)]
        return run_here(monkeypatch, script, "--config", tmp_path / "tiny.ini", *sets, *options)

    return run


def recorded(file: Path, section: str, key: str) -> str:
    parser = ConfigParser()
    parser.read(file)
    return parser[section][key]


def calibrations(caplog) -> int:
    """How often a threshold was learnt; the table of a test names it too."""
    said = "\n".join(caplog.messages)
    return len(re.findall(r"^threshold .*, learnt on .* \(best F1\)$", said, re.MULTILINE))


def test_a_test_and_a_prediction_with_a_checkpoint_of_the_hub(
    served, call, tmp_path, caplog, capsys
):
    checkpoint = [f"CHECKPOINT_PATH={ADDRESS}"]
    images = ("--input", tmp_path / "data/test", "--output", tmp_path / "out", "--recursive")
    assert call("run_test.py", checkpoint) == 0
    assert call("run_predict.py", checkpoint, *images) == 0
    assert call("run_test.py", checkpoint) == 0, "it meets the results of the first"
    assert calibrations(caplog) == 1, "learnt once, for all three"
    results = tmp_path / "results" / "test"
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    pinned = f"{ADDRESS}@{served.commit}"
    assert metrics["checkpoint"] == pinned
    assert metrics["threshold"] is not None
    assert recorded(results / "config.ini", "TESTING", "CHECKPOINT_PATH") == pinned
    assert (results / "them-model-brain-last.calibration.json").is_file()
    assert [file.name for file in (tmp_path / "cache").rglob("*.json")] == []
    served.commit = "b" * 40
    assert call("run_test.py", checkpoint) == 2
    assert f"was '{pinned}', is '{ADDRESS}@{served.commit}'" in capsys.readouterr().err


def test_a_training_with_weights_of_the_hub(served, call, tmp_path, caplog):
    weights = f"hf://{REPO}/vit.pth"
    settings = (
        f"MODEL_WEIGHTS={weights}", "PERCEPTUAL_WEIGHTS=hub", f"MODEL_CKPT_PATH={ADDRESS}",
        "N_EPOCHS=1",
    )  # fmt: skip
    assert call("run_training.py", settings) == 0
    assert call("run_training.py", settings, "--resume") == 0
    assert call("run_test.py", settings[:2]) == 0
    assert calibrations(caplog) == 1, "the test takes the training's"
    config = tmp_path / "results" / "config.ini"
    pinned = {
        "MODEL_WEIGHTS": f"{weights}@{served.commit}",
        "MODEL_CKPT_PATH": f"{ADDRESS}@{served.commit}",
        "PERCEPTUAL_WEIGHTS": "hub",
    }
    assert {key: recorded(config, "TRAINING", key) for key in pinned} == pinned
    assert (tmp_path / "results" / "checkpoints" / "last_ckpt.calibration.json").is_file()


def test_published_and_measured_stand_side_by_side(served, tmp_path):
    served.files["ebayar/QFAE-checkpoints"] = {"brain/last_ckpt.pth": served.files[REPO][PATH]}
    tiny = (tmp_path / "tiny.ini").read_text(encoding="utf-8")
    for name in ("brain", "chest", "liver", "resc"):
        data = f"{tmp_path}/data/test" if name == "brain" else f"{tmp_path}/{name}"
        text = tiny.replace(f"{tmp_path}/data/test", data)
        (tmp_path / f"{name}.ini").write_text(text, encoding="utf-8")
    code = (
        f"import runpy, sys; sys.argv[1:] = '--set CACHE_DIR={tmp_path} --configs {tmp_path} "
        f"--output {tmp_path}/reproduced'.split()\n"
        "runpy.run_module('benchmarks.reproduce', run_name='__main__')"
    )
    run = python("-c", code, HF_ENDPOINT=served.endpoint, HF_HUB_OFFLINE="0")
    assert run.returncode == 0, run.stderr
    metrics = tmp_path / "reproduced" / "brain" / "metrics.json"
    measured = 100 * json.loads(metrics.read_text(encoding="utf-8"))["image_auroc"]
    lines = dict(line.split(maxsplit=1) for line in run.stdout.splitlines()[-4:])
    assert lines["brain"].split() == ["94.3", "94.1", f"{measured:.1f}"]
    assert lines["resc"].endswith(f"no data: {tmp_path}/resc is missing")


@pytest.mark.parametrize(
    "setting", ["MODEL_WEIGHTS=hub", "PERCEPTUAL_WEIGHTS=hub", f"MODEL_CKPT_PATH={ADDRESS}"]
)
def test_a_training_without_network_says_one_line(tiny, tmp_path, setting):
    with pytest.raises(UserError) as caught:
        train(tiny("MODEL_WEIGHTS=random", f"CACHE_DIR={tmp_path}/cache", setting))
    key, _, source = setting.partition("=")
    name = "hf://timm/test_vit.r160_in1k/model.safetensors" if source == "hub" else source
    said = str(caught.value)
    assert said.startswith(f"{key}: {name} is not in CACHE_DIR = {tmp_path}/cache")
    assert said.isprintable()
