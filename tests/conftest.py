"""What many test files share: golden values, a tiny run on phantoms, a browser, tables."""

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from datasets.folders import samples
from datasets.phantom.write import write_phantom_dataset
from engine.evaluate.calibrate import calibrate_trained
from engine.train.start import train
from tests.image_sets import write_mixed
from utils.config.load import Config, load_config

GOLDEN = Path(__file__).parent / "golden"

torch.set_num_threads(1)
# How long an example takes depends on what else the machine does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# Tests must not reach the network, whatever the machine could; the imports above have read the
# variable already, processes that tests start have not.
os.environ["HF_HUB_OFFLINE"] = "1"
huggingface_hub.constants.HF_HUB_OFFLINE = True

TINY = (Path(__file__).parent / "configs" / "tiny.ini").read_text("utf-8")

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """What the published code gives for tests/golden/golden.ini."""
    with np.load(GOLDEN / "golden.npz") as arrays:
        return {
            name: torch.from_numpy(array) if array.dtype.kind != "U" else array.tolist()
            for name, array in arrays.items()
        }


@pytest.fixture
def golden_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """The golden config in another mode; its paths are relative to its own folder."""
    monkeypatch.chdir(GOLDEN)
    return lambda *overrides: load_config("golden.ini", overrides)


@pytest.fixture
def golden_config(golden_in: Callable[..., Config]) -> Config:
    return golden_in()


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


@pytest.fixture(scope="session")
def run_of_one_epoch(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """The results of a tiny run that has been trained and calibrated, once for all tests."""
    config = tiny_in(tmp_path_factory.mktemp("trained"), phantoms)("N_EPOCHS=1")
    folder = train(config)
    calibrate_trained(config)
    return folder


@pytest.fixture
def trained(
    tiny: Callable[..., Config], tmp_path: Path, run_of_one_epoch: Path
) -> Callable[..., Config]:
    """Gives configs as ``tiny`` does, of a model that was trained for one epoch."""
    shutil.copytree(run_of_one_epoch, tmp_path / "results")
    return tiny


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


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
