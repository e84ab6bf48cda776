"""Uploaded files: archives unpacked, everything removed after use, errors without our folders."""

import logging
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import get_ident
from zipfile import BadZipFile, ZipFile

from datasets.folders.samples import Sample
from datasets.readers.formats import shown
from engine.predictor import Predictor
from utils.errors import UserError

# Gradio refuses larger files; an archive may unpack to four times as much.
LARGEST_FILE = 2**30
_LARGEST_ARCHIVE = 4 * LARGEST_FILE
# What zipfile raises for damaged, encrypted and unknown archives.
_UNREADABLE = (BadZipFile, RuntimeError, OSError, EOFError, zlib.error)


@contextmanager
def received(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files and unpacked archives to read; all are removed at the end.

    Raises:
        UserError: An archive cannot be unpacked, or an error of the block, without the folders
            that the server keeps uploads in.
    """
    folder = Path(mkdtemp(dir=files[0].parent))
    try:
        yield [_unpacked(each, folder) if each.suffix.lower() == ".zip" else each for each in files]
    except UserError as error:
        places = (folder, *(file.parent for file in files))
        raise UserError(_without_folders(str(error), places)) from error
    finally:
        rmtree(folder)
        for file in files:
            file.unlink(missing_ok=True)
            with suppress(OSError):
                file.parent.rmdir()


class _Notes(logging.Handler):
    """Collects the warnings of one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


@contextmanager
def noted(paths: Sequence[Path]) -> Iterator[list[str]]:
    """The warnings of the block, once it has ended, without the folders of the paths."""
    notes, root = _Notes(), logging.getLogger()
    told: list[str] = []
    root.addHandler(notes)
    try:
        yield told
    finally:
        root.removeHandler(notes)
    places = {path.parent for path in paths}
    for line in dict.fromkeys(notes.lines):
        text = _without_folders(line, places)
        for place in places:
            text = text.removeprefix(f"{place}: ")
        told.append(text)


def _without_folders(text: str, places: Iterable[Path]) -> str:
    """A message in which the files of these folders have their bare names."""
    for place in places:
        text = text.replace(f"{place}{os.sep}", "")
    return text


def one_of(predictor: Predictor, paths: Sequence[Path]) -> tuple[Sample, ...]:
    """The sample of one picture, or the slices of one volume.

    Raises:
        UserError: The files are something else, or cannot be read.
    """
    samples = predictor.samples(paths)
    volumes = {sample.volume_name for sample in samples}
    if len(samples) == 1 or (len(volumes) == 1 and None not in volumes):
        return samples
    raise UserError(
        f"these {len(samples)} images are not slices of one volume; upload one picture, one NIfTI "
        "file, or the DICOM files of one series"
    )


def _unpacked(archive: Path, folder: Path) -> Path:
    target = folder / archive.stem
    try:
        with ZipFile(archive) as file:
            entries = [each for each in file.infolist() if not each.is_dir()]
            if not entries:
                raise UserError(f"{shown(archive)}: contains no files")
            if sum(each.file_size for each in entries) > _LARGEST_ARCHIVE:
                raise UserError(
                    f"{shown(archive)}: unpacks to more than {_LARGEST_ARCHIVE >> 30} GB; use "
                    "run_predict.py"
                )
            file.extractall(target, entries)
    except _UNREADABLE as error:
        raise UserError(
            f"{shown(archive)}: cannot be unpacked ({error}); create the archive again"
        ) from error
    return target
