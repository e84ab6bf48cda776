"""Configs that the tests of the configuration share, and ways to spoil them."""

from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from pathlib import Path

from utils.config.load import Config, load_config
from utils.errors import ConfigError, Problem

TEST_CONFIGS = Path(__file__).parent / "configs"
_PARSER = ConfigParser()
_PARSER.optionxform = str
_PARSER.read(TEST_CONFIGS / "small.ini", "utf-8")
SMALL = {name: dict(_PARSER[name]) for name in _PARSER.sections()}


def small_ini(changes: Mapping[str, str | None] | None = None) -> str:
    """A valid small config, both sections complete, with some keys changed.

    Args:
        changes: ``SECTION.KEY`` → value, None to leave the key out.
    """
    sections = {name: dict(keys) for name, keys in SMALL.items()}
    for place, value in (changes or {}).items():
        section, _, key = place.partition(".")
        keys = sections.setdefault(section, {})
        if value is None:
            keys.pop(key, None)
        else:
            keys[key] = value
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for name, keys in sections.items()
    )


def load_text(folder: Path, text: str | bytes, overrides: Sequence[str] = ()) -> Config:
    """Write an INI file and load it."""
    file = folder / "case.ini"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_config(file, overrides)


def problems_of(folder: Path, text: str | bytes, overrides: Sequence[str] = ()) -> list[Problem]:
    """The problems of an INI file; none where it loads."""
    try:
        load_text(folder, text, overrides)
    except ConfigError as error:
        return error.problems
    return []
