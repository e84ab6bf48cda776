"""Errors that a user can fix: one line each, without a traceback."""

import faulthandler
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def printable(text: str) -> str:
    """One line that is harmless to a terminal, for text written by others.

    Line breaks and control characters, which file names may contain, become escapes.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


@dataclass(frozen=True)
class Problem:
    """One problem of a configuration: where it is and how to fix it."""

    file: str  # the INI file, or ``--set`` for an override
    section: str  # section name without brackets, "" for the whole file
    key: str  # key name in capitals, "" for the whole section
    text: str  # what was found and how to fix it, in one line

    def __str__(self) -> str:
        place = [self.file + ":"]
        if self.section:
            place.append(f"[{self.section}]")
        if self.key:
            place.append(f"{self.key}:")
        return printable(" ".join([*place, self.text]))


class UserError(Exception):
    """Something the user can fix; scripts print it without a traceback and exit with 2."""


def each_told(*makers: Callable[[], Any]) -> list[Any]:
    """The results of several functions.

    Raises:
        UserError: With all their errors, so that one start reports everything.
    """
    made, problems = [], []
    for make in makers:
        try:
            made.append(make())
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return made


class ConfigError(UserError):
    """All problems of a configuration at once, one per line, in the order they were found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


# Torch raises this at any line of the main process: "DataLoader worker (pid 7) is killed by
# signal: Killed." or "DataLoader worker (pid(s) 7, 8) exited unexpectedly".
_WORKER_DEATH = re.compile(r"DataLoader worker \(pid.*?\d\) ([^.\n]*)")
# Errors of gloo and NCCL when the other end is gone.
_PROCESS_GONE = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE
)


def run_script(
    main: Callable[[], int | None],
    how_to_go_on: str = "finished files are kept; run the same command again to continue",
) -> None:
    """Run a script's ``main`` and leave with its exit code.

    130 for Ctrl-C, 2 for a :class:`UserError` or the death of another process, 1 for a GPU that
    ran out of memory, each with one line on stderr. Anything else is a bug and keeps its
    traceback.

    Args:
        main: Returns the exit code; None is 0.
        how_to_go_on: What to do after Ctrl-C.
    """
    # Gives signal handlers their own stack: oneDNN kernels reuse the stack pointer, so a Ctrl-C in
    # one wrote into the heap, and the run aborted (seen on Intel with AMX).
    faulthandler.enable(file=2)
    try:
        code = main() or 0
    except (KeyboardInterrupt, UserError, RuntimeError) as error:
        ending = _known_ending(error)
        if ending is None:
            raise
        code, said = ending
        if code == 130:
            # Ignore a second Ctrl-C while processes end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            said += how_to_go_on
        print(said, file=sys.stderr)
    except BrokenPipeError:
        # The reader of our output, such as head, has quit; flushing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _known_ending(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line of an error, None for a bug."""
    below: BaseException | None = error
    # A file writer that was interrupted may have replaced the reason by its own error.
    while below is not None:
        if isinstance(below, KeyboardInterrupt):
            return 130, "stopped by Ctrl-C; "
        death = _WORKER_DEATH.search(str(below))
        if death:
            return 2, (
                f"error: a data-loading process {death[1].strip().removeprefix('is ')}. If memory "
                "ran out, lower NUM_WORKERS or the batch size"
            )
        below = below.__cause__ or below.__context__
    if isinstance(error, UserError):
        return 2, str(error) if "\n" in str(error) else f"error: {error}"
    # By its name, since this module does not import torch.
    if type(error).__name__ == "OutOfMemoryError":
        return 1, (
            "error: the GPU ran out of memory. In training, lower BATCH_SIZE_TRAIN and raise "
            "ACCUMULATE; in testing and prediction, lower BATCH_SIZE_TEST"
        )
    if _PROCESS_GONE.search(str(error)):
        return 2, (
            "error: another process of this run died; its own message says why (if it was killed, "
            "memory probably ran out). Finished epochs are saved: continue with --resume"
        )
    return None
