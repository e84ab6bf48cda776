"""Stopping between two steps: Ctrl-C, SIGTERM, preemption by a scheduler, another process's end."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch.distributed

from utils.errors import UserError

# What gloo and NCCL say when the other end is gone.
_GONE = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)


class ProcessLost(UserError):
    """Another of the processes that share this run has ended."""


@contextmanager
def stop_requests_noted() -> Iterator[list[int]]:
    """SIGINT and SIGTERM fill the list that this yields, so that a step is finished first."""
    requests: list[int] = []

    def note(signal_number: int, _: FrameType | None) -> None:
        requests.append(signal_number)

    # A command that a script starts in the background is deaf to Ctrl-C, and stays so.
    heard = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def lost_processes_told() -> Iterator[None]:
    """The end of another process of DEVICES becomes an error of one line.

    Raises:
        ProcessLost: Another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        shared = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        if not shared or not _GONE.search(str(error)):
            raise
        raise ProcessLost(
            "another process of this run has ended: see what it said; where it was killed, memory "
            "may be short. Finished epochs of a training are saved: go on with --resume"
        ) from error
