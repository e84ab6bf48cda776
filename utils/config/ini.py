"""INI text to sections of raw strings, and the command-line arguments that name it."""

import argparse
import configparser
import math
from dataclasses import dataclass
from pathlib import Path

from utils.errors import ConfigError, Problem

SECTIONS = ("TRAINING", "TESTING")
DEFAULT = "DEFAULT"


@dataclass(frozen=True)
class RawConfig:
    """An INI file as text."""

    file: str  # its path as the user gave it
    # Section → key in capitals → value. ``[DEFAULT]`` is already merged in.
    sections: dict[str, dict[str, str]]
    # Section → keys written in that very section; ``DEFAULT`` and unknown ones included.
    own: dict[str, set[str]]


def _read_text(path: Path) -> str:
    """The file's text; a byte order mark is dropped.

    Raises:
        ConfigError: The file is missing, a folder, unreadable, or not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem = "no such file; use the path of an INI file, such as configs/brain.ini"
    except IsADirectoryError:
        problem = "is a folder; use the path of an INI file"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({error}); use the path of a readable INI file"
    else:
        if "\0" not in text:
            return text
        line = text.count("\n", 0, text.index("\0")) + 1
        problem = f"has a NUL byte in line {line}; save it as UTF-8 text"
    raise ConfigError([Problem(str(path), "", "", problem)])


def _parse(file: str, text: str) -> configparser.ConfigParser:
    """Parse INI text.

    Raises:
        ConfigError: With the first syntax error.
    """
    # Interpolation is off because a path or a pattern may contain a percent sign. No header can
    # name the empty default section: [DEFAULT] is read like the others, so that we know which keys
    # are in it and whether it appears twice.
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    # As in configparser's documentation; type checkers take it for a method.
    parser.optionxform = str.upper  # type: ignore[assignment,method-assign]
    section = key = ""
    try:
        parser.read_string(text)
    except configparser.DuplicateOptionError as error:
        section, key = error.section, error.option
        problem = f"appears twice (again in line {error.lineno}); keep one of the two"
    except configparser.DuplicateSectionError as error:
        section = error.section
        problem = f"appears twice (again in line {error.lineno}); merge the two"
    except configparser.MissingSectionHeaderError as error:
        start = f"line {error.lineno} comes before any section"
        problem = f"{start}; start with [TRAINING] or [TESTING]"
    except configparser.ParsingError as error:
        number = error.errors[0][0]
        line = text.split("\n")[number - 1]
        problem = f"line {number} is neither 'KEY = value', a section nor a comment: {line!r}"
    else:
        return parser
    raise ConfigError([Problem(file, section, key, problem)])


def read_ini(path: Path) -> RawConfig:
    """Read an INI file.

    Raises:
        ConfigError: The file cannot be read or is not an INI file; with the first syntax error.
    """
    parser = _parse(str(path), _read_text(path))
    found = {name: dict(parser.items(name)) for name in parser.sections()}
    shared = found.get(DEFAULT, {})
    sections = {name: {**shared, **keys} for name, keys in found.items() if name in SECTIONS}
    own = {DEFAULT: set(shared)} | {name: set(keys) for name, keys in found.items()}
    return RawConfig(str(path), sections, own)


def finite(text: str) -> float:
    """A finite number of the command line.

    Raises:
        ValueError: It is not one; argparse reports it.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of command lines with ``--config FILE`` and ``--set KEY=VALUE``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="an INI file, see configs/"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the config; may be used several times",
    )
    return parser
