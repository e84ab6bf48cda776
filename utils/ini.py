"""INI text to sections of raw strings, with every problem collected rather than raised."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from utils.errors import ConfigError, Problem

SECTIONS = ("TRAINING", "TESTING")


@dataclass(frozen=True)
class RawConfig:
    """An INI file as text.

    Attributes:
        file: Its path as the user gave it.
        sections: Section → key in capitals → value. ``[DEFAULT]`` is already merged in.
        own: Section → keys that stand in that very section, ``DEFAULT`` included.
        problems: What could not be read.
    """

    file: str
    sections: dict[str, dict[str, str]]
    own: dict[str, set[str]]
    problems: list[Problem]


class _Parser(configparser.ConfigParser):
    """A parser whose keys are in capitals and whose values are taken as they stand."""

    def __init__(self, *, strict: bool) -> None:
        # Interpolation is off because a path or a pattern may hold a percent sign.
        super().__init__(interpolation=None, strict=strict)

    def optionxform(self, optionstr: str) -> str:
        return optionstr.upper()


def _read_text(path: Path) -> str:
    """The file's text; a byte order mark is dropped.

    Raises:
        ConfigError: The file is missing, a folder, unreadable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        text = "no such file; give the path of an INI file, e.g. configs/brain.ini"
    except IsADirectoryError:
        text = "is a folder; give the path of an INI file"
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except (OSError, ValueError) as error:
        text = f"cannot be read ({error}); give the path of a readable INI file"
    raise ConfigError([Problem(str(path), "", "", text)])


def _parse(text: str, file: str) -> tuple[configparser.ConfigParser, list[Problem]]:
    """Parse leniently after recording what a strict parse complains about."""
    problems: list[Problem] = []
    try:
        parser = _Parser(strict=True)
        parser.read_string(text)
        return parser, problems
    except configparser.DuplicateOptionError as error:
        found = f"stands twice (line {error.lineno}); keep one of the two"
        problems.append(Problem(file, error.section, error.option, found))
    except configparser.DuplicateSectionError as error:
        found = f"stands twice (line {error.lineno}); join the two"
        problems.append(Problem(file, error.section, "", found))
    except configparser.MissingSectionHeaderError as error:
        found = f"line {error.lineno} stands before any section; begin with [TRAINING] or [TESTING]"
        return _Parser(strict=False), [Problem(file, "", "", found)]
    except configparser.ParsingError as error:
        return _Parser(strict=False), _parsing_problems(error, file)
    parser = _Parser(strict=False)
    try:
        parser.read_string(text)
    except configparser.ParsingError as error:
        problems.extend(_parsing_problems(error, file))
        parser = _Parser(strict=False)
    return parser, problems


def _parsing_problems(error: configparser.ParsingError, file: str) -> list[Problem]:
    return [
        Problem(
            file, "", "", f"line {line} is neither 'KEY = value', a section nor a comment: {text}"
        )
        for line, text in error.errors
    ]


def read_ini(path: Path) -> RawConfig:
    """Read an INI file; what is wrong with its form is in ``problems``, not raised.

    Args:
        path: The file. Read as UTF-8, with or without a byte order mark, any line ends.

    Raises:
        ConfigError: The file as a whole cannot be read.
    """
    file = str(path)
    parser, problems = _parse(_read_text(path), file)
    own = {"DEFAULT": set(parser.defaults())}
    sections: dict[str, dict[str, str]] = {}
    for name in parser.sections():
        if name not in SECTIONS:
            near = next((known for known in SECTIONS if known == name.strip().upper()), None)
            hint = f"write [{near}]" if near else "known are [DEFAULT], [TRAINING] and [TESTING]"
            problems.append(Problem(file, name, "", f"unknown section; {hint}"))
            continue
        sections[name] = {key: value or "" for key, value in parser.items(name)}
        own[name] = set(parser[name]) - {
            key for key, value in parser.defaults().items() if parser[name].get(key) == value
        }
    return RawConfig(file, sections, own, problems)
