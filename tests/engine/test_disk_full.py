"""A disk that is really full or read-only: a small file system of memory, where root may mount."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from engine.testing.test import test as run_test
from engine.train.start import train
from tests.conftest import tiny_in
from tests.engine.train.test_training import check_same_weights, stopped
from utils.errors import UserError


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mounted = os.geteuid() == 0 and mount(Path(folder), "size=1m")
        if mounted:
            unmount(Path(folder))
        return mounted


# The same with an injected writer, which needs no rights, is in test_checkpoints.py.
needs_mount = pytest.mark.skipif(not may_mount(), reason="only root may mount")


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    assert mount(folder, "size=4m")
    yield folder
    unmount(folder)


def fill(folder: Path, room: int) -> Path:
    """Fill a file system up, but for some bytes."""
    filler = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize
    filler.write_bytes(b"x" * (free - room))
    return filler


def contents(folder: Path) -> dict[str, bytes]:
    files = ("training.csv", "checkpoints/last_ckpt.pth", "checkpoints/training_state.pth")
    return {name: (folder / name).read_bytes() for name in files}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, phantoms):
    return train(tiny_in(tmp_path_factory.mktemp("unbroken"), phantoms)("N_EPOCHS=2"))


@needs_mount
@pytest.mark.parametrize("room", [0, 8192, 262_144, 550_000])
def test_training_on_a_full_disk_can_go_on_afterwards(tiny, disk, unbroken, room):
    """Room for nothing, for a table, for one checkpoint, for all but the training state."""
    config = tiny("N_EPOCHS=2", f"RESULTS_PATH={disk / 'run'}")
    stopped(config, 5)
    before = contents(disk / "run")
    filler = fill(disk, room)
    with pytest.raises(UserError, match=r"cannot be written.*No space left on device") as caught:
        train(config, resume=True)
    assert "\n" not in str(caught.value)
    after = contents(disk / "run")
    reached = torch.load(disk / "run" / "checkpoints" / "training_state.pth", weights_only=True)
    # Each file is the old one, or the whole new one.
    assert after["training.csv"].startswith(before["training.csv"])
    assert reached["epoch"] == 1
    assert after["checkpoints/training_state.pth"] == before["checkpoints/training_state.pth"]
    assert not list((disk / "run").rglob(".tmp-*"))
    filler.unlink()
    train(config, resume=True)
    check_same_weights(disk / "run", unbroken)


@needs_mount
def test_a_test_on_a_full_disk(trained, disk):
    filler = fill(disk, 4096)
    config = trained(f"TESTING.RESULTS_PATH={disk / 'test'}")
    with pytest.raises(UserError, match="No space left on device"):
        run_test(config)
    assert not (disk / "test" / "metrics.json").exists()
    filler.unlink()
    run_test(config)
    assert (disk / "test" / "metrics.json").exists()


@needs_mount
def test_a_read_only_disk(tiny, disk):
    config = tiny("N_EPOCHS=2", f"RESULTS_PATH={disk / 'run'}")
    stopped(config, 5)
    before = contents(disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(UserError, match="is not writable"):
        train(config, resume=True)
    with pytest.raises(UserError, match="is not writable"):
        run_test(tiny(f"TESTING.RESULTS_PATH={disk / 'test'}"))
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert contents(disk / "run") == before
    train(config, resume=True)
