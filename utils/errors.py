"""Errors that a user can fix: said in one line each, without a traceback."""

import faulthandler
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def printable(text: str) -> str:
    """One line that is harmless to a terminal, for what was written by others.

    Line breaks and control characters, which names in files may hold, become escapes.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration: where it stands and what would do."""

    file: str  # the INI file, or ``--set`` for an override
    section: str  # section name without brackets, "" where the whole file is meant
    key: str  # key name in capitals, "" where the whole section is meant
    text: str  # what was found and what would do, in one line

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
    """What several functions give.

    Raises:
        UserError: With what all of them raise, so that one start tells everything.
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
    """All problems of a configuration at once, one per line, in the order of their finding."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


# What torch says, at any line of the main process: "DataLoader worker (pid 7) is killed by
# signal: Killed." or "DataLoader worker (pid(s) 7, 8) exited unexpectedly".
_WORKER_DEATH = re.compile(r"DataLoader worker \(pid.*?\d\) ([^.\n]*)")
# What gloo and NCCL say when the other end is gone.
_PROCESS_GONE = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE
)


def run_script(
    main: Callable[[], int | None],
    how_to_go_on: str = "finished files are kept; run the same command again to continue",
) -> None:
    """Run a script's ``main`` and leave with its exit code.

    Ctrl-C gives 130, a :class:`UserError`, or the death of another process, 2, a GPU whose memory
    is full 1; each is told in one line on stderr. Anything else is a fault of the program and
    keeps its traceback.

    Args:
        main: Returns the exit code; None is 0.
        how_to_go_on: What to do after Ctrl-C.
    """
    # For the stack that signals get from it: oneDNN's kernels use the stack pointer for other ends,
    # so that a Ctrl-C in one wrote into the heap, and the run aborted (seen on Intel with AMX).
    faulthandler.enable(file=2)
    try:
        code = main() or 0
    except (KeyboardInterrupt, UserError, RuntimeError) as error:
        ending = _known_ending(error)
        if ending is None:
            raise
        code, said = ending
        if code == 130:
            # A second Ctrl-C, while processes end, has nothing to add.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            said += how_to_go_on
        print(said, file=sys.stderr)
    except BrokenPipeError:
        # What reads our output, such as head, has seen enough; at the end it would be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _known_ending(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line of an error, None for a fault of the program."""
    below: BaseException | None = error
    # What wrote a file when it was stopped may have covered the reason with an error of its own.
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
    # By its name: this module does without torch.
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
