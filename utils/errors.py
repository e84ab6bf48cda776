"""Errors that a user can mend: said in one line each, without a traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Step = TypeVar("Step")


def printable(text: str) -> str:
    """One line that is harmless to a terminal, for what was written by others.

    Line breaks and control characters, which names in files may hold, become escapes.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration: where it stands and what would do.

    Attributes:
        file: The INI file, or ``--set`` for an override.
        section: Section name without brackets, "" where the whole file is meant.
        key: Key name in capitals, "" where the whole section is meant.
        text: What was found and what would do, in one line.
    """

    file: str
    section: str
    key: str
    text: str

    def __str__(self) -> str:
        place = [self.file + ":"]
        if self.section:
            place.append(f"[{self.section}]")
        if self.key:
            place.append(f"{self.key}:")
        return printable(" ".join([*place, self.text]))


class UserError(Exception):
    """Something the user can mend; scripts print it without a traceback and exit with 2."""


class ConfigError(UserError):
    """All problems of a configuration at once, one a line.

    Attributes:
        problems: The problems in the order in which they were found.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class Interrupted(Exception):
    """The process was asked to stop and did so in good order; says how to go on."""


# What to say of the signals that have arrived.
_stops: list[str] = []
# Not empty while signals are looked for between steps.
_in_steps: list[bool] = []


def _stop(number: int, _: object) -> None:
    # Files are written whole or not at all, so that a script may be left at any line.
    name = signal.Signals(number).name
    _stops.append(f"stopped by {name}; finished files are kept: give the same command again")
    # The second one does not wait, should a step take for ever.
    if not _in_steps or len(_stops) > 1:
        raise Interrupted(_stops[-1])


def interruptible(steps: Iterable[Step]) -> Iterator[Step]:
    """The same steps, between which alone a script of :func:`run_script` is stopped.

    While processes are forked for them, an exception of a signal's would be lost.

    Raises:
        Interrupted: SIGINT or SIGTERM has arrived.
    """
    _in_steps.append(True)
    try:
        for step in steps:
            if _stops:
                raise Interrupted(_stops[-1])
            yield step
    finally:
        _in_steps.pop()


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and leave with its exit code.

    A :class:`UserError` is printed to stderr and gives 2; an interrupt, by Ctrl-C or SIGTERM,
    gives 130, a GPU whose memory is full gives 1. Anything else is a fault of the program and
    keeps its traceback.
    """
    _stops.clear()
    heard = [signal.SIGTERM]
    # A command that a script starts in the background is deaf to Ctrl-C, and stays so.
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        heard.append(signal.SIGINT)
    for number in heard:
        signal.signal(number, _stop)
    try:
        try:
            code = main()
        finally:
            # What is left is to say how it ended: a signal now must not give another exit code.
            for number in heard:
                signal.signal(number, signal.SIG_IGN)
    except UserError as error:
        # Loader processes die of a signal that is sent to all: that is no fault to mend.
        code = 130 if _stops else 2
        text = f"error: {error}" if "\n" not in str(error) else str(error)
        print(_stops[-1] if _stops else text, file=sys.stderr)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        code = 130
    except RuntimeError as error:
        # torch.cuda.OutOfMemoryError, by its name: this module does without torch.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        print(
            "error: the GPU's memory is full; lower BATCH_SIZE_TRAIN and raise ACCUMULATE, in "
            "testing and prediction lower BATCH_SIZE_TEST",
            file=sys.stderr,
        )
        code = 1
    sys.exit(code or 0)
