"""Messages of libraries about a file that they read: kept for its error, off the screen."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_LIBRARIES = ("PIL", "pydicom", "nibabel", "tifffile")
# About the file that this thread is reading; not set if it reads none.
_messages: ContextVar[list[str]] = ContextVar("messages")


class _Keep(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if (messages := _messages.get(None)) is not None:
            messages.append(record.getMessage())
        else:
            logging.getLogger().handle(record)


def _show(elsewhere: Callable[..., None], message: Warning | str, *place: Any, **more: Any) -> None:
    if (messages := _messages.get(None)) is not None:
        messages.append(str(message))
    else:
        elsewhere(message, *place, **more)


def keep_warnings() -> None:
    """Keep warnings from now on, in all threads."""
    # Permanently: filters around each call would disturb those of other threads.
    warnings.filterwarnings("always", module=rf"({'|'.join(_LIBRARIES)})(\.|$)")
    warnings.showwarning = functools.partial(_show, warnings.showwarning)


@contextmanager
def kept_messages() -> Iterator[list[str]]:
    """Logs and warnings of libraries in the block and blocks around it, in this thread."""
    messages = _messages.get([])
    before = _messages.set(messages)
    try:
        yield messages
    finally:
        _messages.reset(before)


for _library in _LIBRARIES:
    logging.getLogger(_library).addHandler(_Keep(logging.WARNING))
    logging.getLogger(_library).propagate = False
keep_warnings()
