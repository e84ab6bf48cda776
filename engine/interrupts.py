"""Stopping between two steps: Ctrl-C, SIGTERM, preemption by a scheduler."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests_noted() -> Iterator[list[int]]:
    """SIGINT and SIGTERM fill the list that this yields, so that a step is finished first."""
    requests: list[int] = []

    def note(signal_number: int, _: FrameType | None) -> None:
        requests.append(signal_number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
