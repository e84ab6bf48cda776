"""Writing never loses a file: a full disk, an interrupt, places where no file can be."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from utils.checkpoints import save_tensors
from utils.errors import UserError
from utils.files import write_atomically, write_text


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
def old(tmp_path):
    """A file that stands there before; checks that it stands there after, and nothing else."""
    file = tmp_path / "run" / "last_ckpt.pth"
    file.parent.mkdir()
    file.write_bytes(b"old")
    yield file
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("room", [0, 100, 4000])
def test_a_full_disk_leaves_the_old_file(old, room):
    content = {"x": torch.ones(10_000)}
    with pytest.raises(UserError, match=r"cannot be written.*is unchanged") as caught:
        write_atomically(old, lambda file: torch.save(content, FullDisk(file, room)))
    assert str(old) in str(caught.value)


def test_a_disk_that_is_full_at_the_last_moment(old, monkeypatch):
    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="No space left on device"):
        save_tensors(old, {"x": torch.ones(2)})


def test_content_is_on_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    file, seen, real = tmp_path / "a.txt", [], os.fsync
    write_text(file, "old")

    def fsync(descriptor):
        real(descriptor)
        seen.append((os.fstat(descriptor).st_size, file.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(file, "new content")
    assert seen == [(11, "old")]
    assert file.read_text() == "new content"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_an_interrupt_while_writing_leaves_the_old_file(old, monkeypatch, error):
    def stop(*_):
        raise error

    with pytest.raises(error):
        write_atomically(old, lambda file: (file.write(b"half"), stop()))
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(error):
        write_text(old, "new")


def test_a_folder_that_may_not_be_written(old):
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


@pytest.mark.parametrize("name", ["last_ckpt.pth/below", "last_ckpt.pth/a/b", "x" * 300, "."])
def test_places_where_no_file_can_be(old, name):
    with pytest.raises(UserError, match="cannot be written"):
        write_text(old.parent / name, "new")
    assert list(old.parent.parent.glob(".*")) == []


def test_text_may_name_files_that_are_no_utf_8_and_folders_are_made(tmp_path):
    file = tmp_path / "a" / "b" / "scores.csv"
    write_text(file, f"päth\n{os.fsdecode(bytes([0xE4]))}.png\n")
    assert file.read_bytes() == "päth\n".encode() + b"\xe4.png\n"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        save_tensors(tmp_path / "a.pth", {"x": torch.ones(2)})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.pth").stat().st_mode) == mode
