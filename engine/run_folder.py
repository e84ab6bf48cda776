"""Where results may go: away from images, into a folder that no other process writes to."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.folders.find import existing_folder
from datasets.folders.splits import places_of_config
from datasets.readers.formats import shown
from utils.config.load import Config, ini_values, load_config
from utils.config.schema import NUMBERS, differences
from utils.errors import UserError, printable
from utils.files import file_digest
from utils.run_files import TestFiles

# A killed write_atomically leaves such a file behind; see utils.files.
_LEFT_OVER = ".tmp-" + "[0-9a-f]" * 16


def check_results_folder(config: Config, folder: Path, *, key: str = "RESULTS_PATH") -> None:
    """Look at a results folder before anything is computed for it; nothing is written.

    Args:
        config: Names the folders of images.
        folder: Where results are to go; need not exist yet.
        key: What named it, for messages.

    Raises:
        UserError: It is not a folder, is not writable, or is in, around or the same as a folder of
            images: results would become images, or be among them.
    """
    if not folder.exists() and (slip := _slip(str(folder))):
        raise UserError(f"{key}: {shown(folder)} {slip}")
    own = _real(folder)
    if own == own.parent:
        raise UserError(
            f"{key}: {shown(folder)} is the root of the file system; choose a folder in it"
        )
    there = _nearest(own)
    if not there.is_dir() or (folder.is_symlink() and not folder.exists()):
        raise UserError(
            f"{key}: {shown(folder)} cannot be a folder: {shown(there)} is a file or a broken "
            "link; choose another one"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{key}: {shown(folder)} is not writable; fix the permissions of {shown(there)}, or "
            "choose another folder"
        )
    for place in places_of_config(config):
        data = place.folder
        with suppress(UserError):  # a missing folder is reported when it is read
            data = existing_folder(place.folder, place.key)
        images = _real(data)
        if own == images or own in images.parents or images in own.parents:
            raise UserError(
                f"{key}: {shown(folder)} overlaps {place.key} = {shown(place.folder)}; choose a "
                "folder outside the images"
            )


def _slip(path: str) -> str:
    """What an INI file accepts, though nobody means it."""
    if re.search(r"\s[;#]", path):
        return "contains a comment; put comments on their own line"
    if os.sep == "/" and "\\" in path:
        return "is a Windows path; write / between folders"
    return ""


def _real(path: Path) -> Path:
    # Unlike Path.resolve, this copes with circular links.
    return Path(os.path.realpath(path.expanduser()))


def _nearest(path: Path) -> Path:
    """The path, or the nearest of the folders above it that exists."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


@contextmanager
def one_trainer_in(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a results folder, and remove what killed ones left half-written.

    The lock goes with the process, however that ends; loader processes do not hold on to it.

    Raises:
        UserError: Another process trains there, or the folder cannot be written.
    """
    lock = FileLock(folder / ".lock", blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"RESULTS_PATH: another process is training in {shown(folder)}; wait for it, "
            "stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise UserError(f"RESULTS_PATH: {shown(folder)} cannot be written ({error})") from error
    try:
        for part in (folder, folder / "checkpoints"):
            for left_over in part.glob(_LEFT_OVER):
                left_over.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def check_same_test(config: Config) -> None:
    """A test may be repeated; one of another config or checkpoint keeps its folder.

    Raises:
        UserError: The folder holds results of another config, or of an unknown one.
    """
    files = TestFiles(config.need_testing().results_path)
    if not (files.scores.exists() or files.metrics.exists()):
        return
    advice = "set another RESULTS_PATH, or replace them with --overwrite"
    try:
        made = load_config(files.config)
    except UserError as error:
        raise UserError(
            f"RESULTS_PATH: {shown(files.folder)} contains test results without the config that "
            f"produced them; {advice}"
        ) from error
    changes = differences(_keys_of_test(made), _keys_of_test(config), NUMBERS)
    differing = [f"{key}: {change}" for key, change in changes.items()]
    checkpoints = config.need_testing().checkpoints
    for checkpoint, digest in zip(checkpoints, _tested_checkpoints(files), strict=False):
        if (
            isinstance(checkpoint, Path)
            and checkpoint.is_file()
            and digest != file_digest(checkpoint)
        ):
            differing.append(f"{shown(checkpoint)} has changed since")
    if differing:
        raise UserError(
            f"RESULTS_PATH: {shown(files.folder)} contains results of another test "
            f"({printable('; '.join(differing))}); {advice}"
        )


def _tested_checkpoints(files: TestFiles) -> list[str]:
    """The digests of the checkpoints that a finished test was made with; none if unknown."""
    try:
        digests = json.loads(files.metrics.read_text(encoding="utf-8"))["checkpoint_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return digests if isinstance(digests, list) else [digests]


def _keys_of_test(config: Config) -> dict[str, str]:
    """The keys that a test reads; those of its validation images are in [TRAINING]."""
    found = ini_values(config.testing) if config.testing else {}
    if config.training:
        of_training = ini_values(config.training)
        found |= {key: of_training[key] for key in ("VAL_DATA_PATH", "MAX_SAMPLES_VAL")}
    return found
