"""What libraries say about a file that they read: kept for its error, off the screen."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("PIL", "pydicom", "nibabel", "tifffile")
_here = threading.local()


class _Keep(logging.Handler):
    """Keeps messages for the file that this thread reads."""

    def emit(self, record: logging.LogRecord) -> None:
        messages: list[str] | None = getattr(_here, "messages", None)
        if messages is not None and record.levelno >= logging.WARNING:
            messages.append(record.getMessage())


def _silence() -> None:
    keep = _Keep()
    for library in _LIBRARIES:
        logger = logging.getLogger(library)
        logger.addHandler(keep)
        logger.propagate = False
    # One filter for good: around each call, threads would disturb one another.
    warnings.filterwarnings("ignore", module=rf"({'|'.join(_LIBRARIES)})(\.|$)")


@contextmanager
def kept_messages() -> Iterator[list[str]]:
    """What libraries log in the block, in this thread."""
    outer = getattr(_here, "messages", None)
    messages: list[str] = []
    _here.messages = messages
    try:
        yield messages
    finally:
        _here.messages = outer


_silence()
