"""Errors that a user can mend: said in one line each, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass


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


def run_script(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and leave with its exit code.

    A :class:`UserError` is printed to stderr and gives 2; an interrupt, by Ctrl-C or SIGTERM,
    gives 130. Anything else is a fault of the program and keeps its traceback.
    """
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}" if "\n" not in str(error) else str(error), file=sys.stderr)
        code = 2
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        code = 130
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
