"""Checkpoint files: plain state dicts, read without running code, written atomically."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.weights import mismatches

_ENCODER = re.compile(r"encoders\.(\d+)\.model\.")
_HEAD = re.compile(r"encoders\.\d+\.model\.(head|fc_norm|norm)\.")


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: The file; its folder is made where it is missing.
        write: Called with the open temporary file.

    Raises:
        UserError: The file cannot be written (disk full, read-only).
    """
    # Made by open and not by tempfile, so that its permissions are those of any other file.
    temporary = path.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("x+b") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{path}: cannot be written ({_cause(error)}); what stood there before is intact"
        ) from error


def _cause(error: BaseException) -> BaseException:
    """The system's own error, where torch's writer has covered it with one about its position."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.__context__
    return below or error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; file names in it that are no UTF-8 keep their bytes."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Save what ``torch.load(weights_only=True)`` reads back, atomically."""
    write_atomically(path, lambda file: torch.save(dict(content), file))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds_encoder(state_dict: Mapping[str, Tensor], index: int) -> bool:
    """Whether a checkpoint holds the frozen weights of encoder ``index``; a head is none."""
    prefix = f"encoders.{index}.model."
    return any(name.startswith(prefix) and not _HEAD.match(name) for name in state_dict)


def load_model(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: Path) -> None:
    """Load a checkpoint of the trained parts, or of the whole model.

    A classifier head of a published file is ignored. The weights of an encoder that the file
    does not hold stay as they are.

    Args:
        model: A :class:`models.autoencoder.QFormerAutoencoder`.
        state_dict: The checkpoint's content.
        source: Its path, for messages.

    Raises:
        UserError: Names are missing or unknown, shapes differ, or a value is not finite; the
            message lists the tensors with expected and found shapes.
    """
    own = model.state_dict()
    given = {
        name: tensor
        for name, tensor in state_dict.items()
        # Empty ones are the registers of a decoder that has none.
        if tensor.numel() and (name in own or not _HEAD.match(name))
    }
    wanted = {
        name: tensor
        for name, tensor in own.items()
        if name in given
        or not (encoder := _ENCODER.match(name))
        or holds_encoder(given, int(encoder[1]))
    }
    problems = mismatches(given, wanted)
    if problems:
        raise UserError(
            f"{source}: does not fit the configured model: {problems}. "
            "Use the config that it was trained with"
        )
    model.load_state_dict(given, strict=False)
