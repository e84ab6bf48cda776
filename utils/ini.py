"""INI text to sections of raw strings, with every problem collected rather than raised."""

from __future__ import annotations

import configparser
import difflib
from dataclasses import dataclass
from pathlib import Path

from utils.errors import ConfigError, Problem

SECTIONS = ("TRAINING", "TESTING")
DEFAULT = "DEFAULT"
# Marks names of our own in the text; a file that holds this character is refused.
_MARK = "\0"


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

    def __init__(self) -> None:
        # Interpolation is off because a path or a pattern may hold a percent sign. No header can
        # name the empty default section: [DEFAULT] is read like the others, so that we know which
        # keys stand in it and whether it stands twice.
        super().__init__(interpolation=None, default_section="")

    def optionxform(self, optionstr: str) -> str:
        return optionstr.upper()


def _read_text(path: Path) -> str:
    """The file's text; a byte order mark is dropped.

    Raises:
        ConfigError: The file is missing, a folder, unreadable, or not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem = "no such file; give the path of an INI file, e.g. configs/brain.ini"
    except IsADirectoryError:
        problem = "is a folder; give the path of an INI file"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({error}); give the path of a readable INI file"
    else:
        if _MARK not in text:
            return text
        line = text.count("\n", 0, text.index(_MARK)) + 1
        problem = f"holds a NUL byte in line {line}; save it as UTF-8 text"
    raise ConfigError([Problem(str(path), "", "", problem)])


class _Reader:
    """Parses INI text again and again, each time without the faults found so far."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.split("\n")
        self.problems: list[Problem] = []
        # Stand-in of a section that stands again → its name.
        self.repeated: dict[str, str] = {}

    def read(self) -> dict[str, dict[str, str]]:
        """Section → key → value, [DEFAULT] as one of them; fills ``problems``."""
        while True:
            parser = _Parser()
            try:
                parser.read_string("\n".join(self.lines))
            except configparser.DuplicateOptionError as error:
                self._rename_key(error)
            except configparser.DuplicateSectionError as error:
                self._rename_section(error)
            except configparser.MissingSectionHeaderError as error:
                self._drop_start(error)
            except configparser.ParsingError as error:
                self._drop_lines(error)
            else:
                return self._joined(parser)

    def _say(self, section: str, key: str, text: str) -> None:
        self.problems.append(Problem(self.file, section, key, text))

    def _rename_key(self, error: configparser.DuplicateOptionError) -> None:
        number = error.lineno or 0
        section = self.repeated.get(error.section, error.section)
        self._say(section, error.option, f"stands twice (line {number}); keep one of the two")
        # Not left out: lines that continue its value would then continue another one.
        self.lines[number - 1] = f"{_MARK}{number} ="

    def _rename_section(self, error: configparser.DuplicateSectionError) -> None:
        number = error.lineno or 0
        self._say(error.section, "", f"stands twice (line {number}); join the two")
        self.repeated[f"{_MARK}{number}"] = error.section
        self.lines[number - 1] = f"[{_MARK}{number}]"

    def _drop_start(self, error: configparser.MissingSectionHeaderError) -> None:
        text = f"line {error.lineno} stands before any section; begin with [TRAINING] or [TESTING]"
        self._say("", "", text)
        # One line for all keys before the first header: the mend is one header above them.
        for index, line in enumerate(self.lines):
            if _Parser.SECTCRE.match(line.strip()):
                break
            self.lines[index] = ""

    def _drop_lines(self, error: configparser.ParsingError) -> None:
        for number, _ in error.errors:
            found = f"line {number} is neither 'KEY = value', a section nor a comment"
            self._say("", "", f"{found}: {self.lines[number - 1]!r}")
            self.lines[number - 1] = "#"

    def _joined(self, parser: _Parser) -> dict[str, dict[str, str]]:
        sections: dict[str, dict[str, str]] = {}
        for name in parser.sections():
            known = sections.setdefault(self.repeated.get(name, name), {})
            for key, value in parser.items(name):
                if not key.startswith(_MARK):
                    known.setdefault(key, value)
        return sections


def _unknown_section(name: str) -> str:
    known = (DEFAULT, *SECTIONS)
    near = difflib.get_close_matches(name.strip().upper(), known, n=1)
    hint = f"write [{near[0]}]" if near else "known are [DEFAULT], [TRAINING] and [TESTING]"
    return f"unknown section; {hint}"


def read_ini(path: Path) -> RawConfig:
    """Read an INI file; what is wrong with its form is in ``problems``, not raised.

    Args:
        path: The file. Read as UTF-8, with or without a byte order mark, any line ends.

    Raises:
        ConfigError: The file as a whole cannot be read.
    """
    file = str(path)
    reader = _Reader(file, _read_text(path))
    found = reader.read()
    shared = found.pop(DEFAULT, {})
    unknown = [
        Problem(file, name, "", _unknown_section(name)) for name in found if name not in SECTIONS
    ]
    sections = {name: {**shared, **keys} for name, keys in found.items() if name in SECTIONS}
    own = {DEFAULT: set(shared)} | {name: set(found[name]) for name in sections}
    return RawConfig(file, sections, own, reader.problems + unknown)
