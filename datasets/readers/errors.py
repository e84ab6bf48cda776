"""Every error of a file as one line that names it."""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import UnidentifiedImageError

from datasets.readers.formats import shown
from datasets.readers.library_logs import kept_messages
from utils.errors import UserError, printable

# Raised by decoders on unexpected headers; their texts mean nothing to a user.
_SURPRISES = (TypeError, AttributeError, LookupError, ArithmeticError, struct.error)
_PYTHON_WORDS = re.compile(r"<[^<>]*>|Use force=True[^.]*\.")


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn any error of the block into a one-line UserError that names the file."""
    with kept_messages() as messages:
        try:
            yield
        except (UserError, MemoryError):
            raise
        except FileNotFoundError as error:
            raise UserError(f"{shown(path)}: no such file") from error
        # Decoders raise anything on unexpected bytes.
        except Exception as error:
            reason = _reason(error, messages)
            raise UserError(
                f"{shown(path)}: cannot be read as an image ({reason}); replace or remove it"
            ) from error


def _reason(error: Exception, messages: Sequence[str]) -> str:
    """An error and what was logged before it, on one line, without Python's objects."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not a PNG, JPEG, BMP or TIFF file"
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    if "cannot reshape array" in text:
        text = "its pixels are cut short"
    if isinstance(error, _SURPRISES):
        text = "its header is damaged"
    told = "; ".join(dict.fromkeys([text, *messages]))
    line = " ".join(_PYTHON_WORDS.sub("", told).split())
    return printable(line)
