"""Fixtures that several test files share: the golden values and a tiny run on phantoms."""

import os
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch

from datasets.folders import samples
from datasets.phantom.write import write_phantom_dataset
from tests.image_sets import write_mixed
from utils.config.load import Config, load_config

GOLDEN = Path(__file__).parent / "golden"

torch.set_num_threads(1)
# Tests must not reach the network, whatever the machine could; the imports above have read the
# variable already, processes that tests start have not.
os.environ["HF_HUB_OFFLINE"] = "1"
huggingface_hub.constants.HF_HUB_OFFLINE = True

TINY = (Path(__file__).parent / "configs" / "tiny.ini").read_text("utf-8")


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """What the published code gives for tests/golden/golden.ini."""
    with np.load(GOLDEN / "golden.npz") as arrays:
        return {
            name: torch.from_numpy(array) if array.dtype.kind != "U" else array.tolist()
            for name, array in arrays.items()
        }


@pytest.fixture
def golden_config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """The golden config; its paths are relative to its own folder."""
    monkeypatch.chdir(GOLDEN)
    return load_config("golden.ini")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few phantoms of 32 pixels in BMAD layout."""
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    counts = {"train": 18, "valid_good": 3, "valid_ungood": 3, "test_good": 4, "test_ungood": 3}
    write_phantom_dataset(folder, size=32, seed=3, **counts)
    return folder


def tiny_in(folder: Path, phantoms: Path) -> Callable[..., Config]:
    """What builds tiny configs on the phantoms; results go under ``folder``."""
    (folder / "data").symlink_to(phantoms)
    file = folder / "tiny.ini"
    file.write_text(TINY.format(folder=folder), encoding="utf-8")
    return lambda *overrides: load_config(file, overrides)


@pytest.fixture
def tiny(tmp_path: Path, phantoms: Path) -> Callable[..., Config]:
    """Builds tiny configs on the phantoms; results go under ``tmp_path``."""
    return tiny_in(tmp_path, phantoms)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of four images for CACHE_IMAGES, one of them in colour."""
    write_mixed(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded, in any order."""
    names: list[str] = []
    read = samples.read_image

    def noted(path: Path, *arguments: object, **options: object) -> np.ndarray:
        names.append(path.name)
        return read(path, *arguments, **options)

    monkeypatch.setattr(samples, "read_image", noted)
    return names
