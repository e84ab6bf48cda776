"""What libraries say about a file that they read: kept for its error, off the screen."""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LIBRARIES = ("PIL", "pydicom", "nibabel", "tifffile")
_here = threading.local()


class _Keep(logging.Handler):
    """Keeps messages for the file that this thread reads."""

    def emit(self, record: logging.LogRecord) -> None:
        messages: list[str] | None = getattr(_here, "messages", None)
        if messages is not None and record.levelno >= logging.WARNING:
            messages.append(record.getMessage())


def _show(elsewhere: Callable[..., None], message: Warning | str, *place: Any, **more: Any) -> None:
    """Keep a warning for the file that this thread reads; show it where there is none."""
    messages: list[str] | None = getattr(_here, "messages", None)
    if messages is None:
        elsewhere(message, *place, **more)
    else:
        messages.append(str(message))


def _silence() -> None:
    keep = _Keep()
    for library in _LIBRARIES:
        logger = logging.getLogger(library)
        logger.addHandler(keep)
        logger.propagate = False


def keep_warnings() -> None:
    """Have warnings kept from now on, in all threads."""
    # For good: filters around each call would disturb those of other threads.
    warnings.filterwarnings("always", module=rf"({'|'.join(_LIBRARIES)})(\.|$)")
    warnings.showwarning = functools.partial(_show, warnings.showwarning)


@contextmanager
def kept_messages() -> Iterator[list[str]]:
    """What libraries log and warn of in the block, in this thread."""
    outer = getattr(_here, "messages", None)
    messages: list[str] = []
    _here.messages = messages
    try:
        yield messages
    finally:
        _here.messages = outer


_silence()
keep_warnings()
