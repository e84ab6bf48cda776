"""Messages about a wrong key or section: what was found, what to write instead."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence

from utils.config.ini import DEFAULT, SECTIONS, RawConfig
from utils.config.schema import SCHEMAS, SectionConfig, keys_of
from utils.config.shared_keys import about
from utils.config.values import is_quoted
from utils.errors import Problem


def unknown_key(key: str, sections: Sequence[str]) -> str:
    """Where a key that these sections do not have belongs, or the nearest known key."""
    elsewhere = [name for name in SCHEMAS if name not in sections and key in keys_of(name)]
    if elsewhere:
        return f"belongs in [{elsewhere[0]}]; move it there"
    known = sorted(set().union(*map(keys_of, sections)))
    near = _nearest(key, known)
    hint = f"did you mean {near}?" if near else "docs/config.md lists all keys"
    return f"unknown key; {hint}"


def _nearest(name: str, known: Collection[str]) -> str:
    """The name that may be meant: a typo away, not a different word with the same letters."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), "")


def unknown_sections(raw: RawConfig) -> list[Problem]:
    """Each unknown section, with the one that may be meant."""
    known = (DEFAULT, *SECTIONS)
    problems = []
    for name in [name for name in raw.own if name not in known]:
        near = _nearest(name.strip().upper(), known)
        hint = f"did you mean [{near}]?" if near else "use [DEFAULT], [TRAINING] or [TESTING]"
        problems.append(Problem(raw.file, name, "", f"unknown section; {hint}"))
    return problems


def unknown_keys(raw: RawConfig) -> list[Problem]:
    """Each key that its section does not have."""
    everywhere = set().union(*map(keys_of, SCHEMAS))
    problems = [
        Problem(raw.file, DEFAULT, key, unknown_key(key, list(SCHEMAS)))
        for key in sorted(raw.own[DEFAULT] - everywhere)
    ]
    for section in raw.sections:
        for key in sorted(raw.own[section] - keys_of(section).keys()):
            problems.append(Problem(raw.file, section, key, unknown_key(key, [section])))
    return problems


def expectation(schema: type[SectionConfig], name: str, values: Mapping[str, str]) -> str:
    """What a missing key or a wrong value must be."""
    field = schema.model_fields[name]
    expected = field.description
    if name.upper() not in values:
        return f"missing; set it to {expected}: {about(field).meaning}"
    value, hint = values[name.upper()], ""
    if "\n" in value:
        hint = " (an indented line continues the one above it)"
    elif re.search(r"\s[;#]", value):
        hint = " (comments need their own line)"
    elif is_quoted(value):
        hint = " (without quotes)"
    found = value if len(value) <= 80 else f"{value[:77]}..."
    return f"found {found!r}; must be {expected}{hint}"
