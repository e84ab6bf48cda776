"""The file of CACHE_IMAGES = disk: damaged, built by several at once, on a disk that fails."""

import errno
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets import cache as image_cache
from datasets.cache import keep_images
from datasets.dataset import AnomalyDataset
from datasets.folders import samples
from tests.image_sets import dataset_of, files_in
from utils.errors import UserError

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


def total_of(dataset: AnomalyDataset) -> int:
    return sum(int(dataset[index]["image"].sum()) for index in range(len(dataset)))


def build(cache: Path, source: Path, decoding: Event, may_go_on: Event) -> None:
    """Keep images, and wait in the first decoding until it may go on."""
    read = samples.read_image

    def waiting(*arguments: object, **options: object) -> object:
        if not decoding.is_set():
            decoding.set()
            may_go_on.wait(60)
        return read(*arguments, **options)

    samples.read_image = waiting
    keep_images(dataset_of(source), "disk", cache)


@pytest.fixture
def builder(source):
    """A process in its first decoding, and what lets it go on."""
    # Forked: importing torch anew takes seconds.
    context = multiprocessing.get_context("fork")
    decoding, may_go_on = context.Event(), context.Event()
    arguments = (source.parent / "cache", source, decoding, may_go_on)
    process = context.Process(target=build, args=arguments)
    process.start()
    assert decoding.wait(60)
    yield process, may_go_on
    process.kill()


def test_of_two_processes_one_builds_and_one_waits(source, builder, decoded, monkeypatch):
    def noted(text: str, *_: object) -> None:
        said.append(text)
        may_go_on.set()

    (process, may_go_on), said = builder, []
    monkeypatch.setattr(image_cache.logger, "info", noted)
    kept = keep_images(dataset_of(source), "disk", source.parent / "cache")
    process.join(60)
    assert process.exitcode == 0
    assert said[0] == "waiting for another process that is reading the same images"
    assert decoded == []
    assert len(files_in(source.parent / "cache")) == 1
    assert total_of(kept) == total_of(dataset_of(source))


def test_a_killed_process_blocks_nobody_and_leaves_nothing(source, builder):
    cache, (killed, _) = source.parent / "cache", builder
    killed.kill()
    killed.join(60)
    assert [path.name for path in files_in(cache)] == ["images.part"]
    assert total_of(keep_images(dataset_of(source), "disk", cache)) > 0
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
