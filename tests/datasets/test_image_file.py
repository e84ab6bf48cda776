"""The file of CACHE_IMAGES = disk: damaged, built by several at once, on a disk that fails."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets import cache as image_cache
from datasets.cache import keep_images
from tests.image_sets import dataset_of, files_in
from utils.errors import UserError

ROOT = Path(__file__).parents[2]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "header alone": lambda content: content[:128],
    "truncated": lambda content: content[:-1],
    "zeros": lambda content: b"\0" * len(content),
    "another shape": lambda content: content.replace(b"(4, 3, 8, 8)", b"(3, 4, 8, 8)"),
    "another type": lambda content: content.replace(b"'|u1'", b"'|i1'"),
    "no shape": lambda content: content.replace(b"(4, 3, 8, 8)", b"(4, 3, 8, )))"[:12]),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_made_anew(source, decoded, caplog, damage):
    cache = source.parent / "cache"
    keep_images(dataset_of(source), "disk", cache)
    (file,) = files_in(cache)
    sound = file.read_bytes()
    assert damage(sound) != sound
    file.write_bytes(damage(sound))
    decoded.clear()
    keep_images(dataset_of(source), "disk", cache)
    assert "is damaged" in caplog.text
    assert len(set(decoded)) == 4
    assert file.read_bytes() == sound


BUILD = """
import logging, sys
from itertools import count
from pathlib import Path
from datasets.folders import samples
from datasets import cache as image_cache
from tests.image_sets import dataset_of
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
read, numbers, seen = samples.read_image, count(), set()
def noted(path, *arguments, **options):
    if next(numbers) == 0:
        print("decoding", flush=True)
        sys.stdin.readline()
    seen.add(path)
    return read(path, *arguments, **options)
samples.read_image = noted
kept = image_cache.keep_images(dataset_of(Path(sys.argv[1])), "disk", Path(sys.argv[2]))
total = sum(int(kept.resized(index).sum()) for index in range(len(kept)))
print(f"decoded {len(seen)} images, sum {total}")
"""


class Builder:
    """A process that keeps images, and waits for :meth:`finish` in its first decoding."""

    def __init__(self, source: Path, cache: Path, first_line: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BUILD, str(source), str(cache)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == first_line

    def finish(self) -> str:
        """Its last line."""
        printed, _ = self.process.communicate("go\n", timeout=60)
        assert self.process.returncode == 0
        return printed.splitlines()[-1]


def total_of(cache: Path, source: Path) -> int:
    kept = keep_images(dataset_of(source), "disk", cache)
    return sum(int(kept.resized(index).sum()) for index in range(len(kept)))


def test_of_two_processes_one_builds_and_one_waits(source):
    cache = source.parent / "cache"
    first = Builder(source, cache, "decoding\n")
    second = Builder(source, cache, "waiting for another process that reads the same images\n")
    printed = first.finish(), second.finish()
    total = total_of(cache, source)
    assert printed == (f"decoded 4 images, sum {total}", f"decoded 0 images, sum {total}")
    assert len(files_in(cache)) == 1


def test_a_killed_process_blocks_nobody_and_leaves_nothing(source):
    cache = source.parent / "cache"
    killed = Builder(source, cache, "decoding\n").process
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    assert [path.name for path in files_in(cache)] == ["images.part"]
    assert total_of(cache, source) > 0
    assert [path.name for path in files_in(cache)] == ["images.npy"]


def test_a_full_disk_leaves_no_part(source, decoded, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache, room = source.parent / "cache", image_cache.shutil.disk_usage("/")._replace(free=255)
    with monkeypatch.context() as patch:
        patch.setattr(image_cache.shutil, "disk_usage", lambda path: room)
        said = r"CACHE_IMAGES = disk: needs 2\.56e-07 GB.* 2\.55e-07 GB"
        with pytest.raises(UserError, match=said):
            keep_images(dataset_of(source), "disk", cache)
    assert decoded == []
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"CACHE_IMAGES = disk: .*No space left.*CACHE_DIR"):
        keep_images(dataset_of(source), "disk", cache)
    assert files_in(cache) == []


def test_a_folder_that_cannot_be_made(source):
    (source.parent / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"CACHE_IMAGES = disk: .*cache.*CACHE_IMAGES = none"):
        keep_images(dataset_of(source), "disk", source.parent / "cache")


def test_a_folder_that_may_not_be_written(source, monkeypatch):
    cache = source.parent / "cache"
    kept = keep_images(dataset_of(source), "disk", cache)

    def read_only(original: Callable[..., Any]) -> Callable[..., Any]:
        # As of a read-only drive, for root as well, whom permissions do not stop.
        def refused(path: Path, *arguments: object, **options: object) -> Any:
            if Path(path).is_relative_to(cache):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return original(path, *arguments, **options)

        return refused

    monkeypatch.setattr(os, "mkdir", read_only(os.mkdir))
    monkeypatch.setattr(os, "open", read_only(os.open))
    again = keep_images(dataset_of(source), "disk", cache)
    assert torch.equal(again.resized(1), kept.resized(1))
    with pytest.raises(UserError, match=r"CACHE_IMAGES = disk: .*Read-only.*CACHE_DIR"):
        keep_images(dataset_of(source, size=9), "disk", cache)
