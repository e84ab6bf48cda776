"""INI files to validated config objects; every problem of a file is reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from utils.checks import contradictions
from utils.errors import ConfigError, Problem
from utils.ini import RawConfig, read_ini
from utils.schema import SectionConfig, TestingConfig, TrainingConfig

SCHEMAS: Mapping[str, type[SectionConfig]] = {"TRAINING": TrainingConfig, "TESTING": TestingConfig}
KEYS = {
    section: {name.upper() for name in schema.model_fields} for section, schema in SCHEMAS.items()
}
OVERRIDES = "--set"


@dataclass(frozen=True)
class Config:
    """A configuration as its scripts use it.

    Attributes:
        file: The INI file as the user gave it.
        training: The section [TRAINING], None where the file has none.
        testing: The section [TESTING], None where the file has none.
    """

    file: str
    training: TrainingConfig | None
    testing: TestingConfig | None

    def need_training(self) -> TrainingConfig:
        """The section [TRAINING].

        Raises:
            ConfigError: The file has none.
        """
        if self.training is None:
            raise _missing_section(self.file, "TRAINING")
        return self.training

    def need_testing(self) -> TestingConfig:
        """The section [TESTING].

        Raises:
            ConfigError: The file has none.
        """
        if self.testing is None:
            raise _missing_section(self.file, "TESTING")
        return self.testing


def _missing_section(file: str, section: str) -> ConfigError:
    text = f"missing; add a section [{section}], as in configs/demo.ini"
    return ConfigError([Problem(file, section, "", text)])


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read and check an INI file.

    Args:
        path: An INI file in the published form, or one that shares keys through [DEFAULT].
        overrides: ``KEY=VALUE`` (every section that knows the key) or ``SECTION.KEY=VALUE``.

    Raises:
        ConfigError: With all problems of file and overrides.
    """
    raw = read_ini(Path(path))
    problems = list(raw.problems)
    overridden = _apply_overrides(raw, overrides, problems)
    sections: dict[str, Any] = {}
    problems += _unknown_keys(raw)
    if not raw.sections and not problems:
        text = "holds no section; add [TRAINING], [TESTING] or both"
        problems.append(Problem(raw.file, "", "", text))
    for section, values in raw.sections.items():
        known = {key.lower(): value for key, value in values.items() if key in KEYS[section]}
        sections[section] = _validate(raw.file, section, known, overridden, problems)
    if problems:
        raise ConfigError(problems)
    return Config(raw.file, sections.get("TRAINING"), sections.get("TESTING"))


def _apply_overrides(
    raw: RawConfig, overrides: Sequence[str], problems: list[Problem]
) -> set[tuple[str, str]]:
    """Write the overrides into ``raw.sections``; returns the (section, key) pairs they set."""
    done: set[tuple[str, str]] = set()
    for override in overrides:
        name, equals, value = override.partition("=")
        section, _, key = name.strip().upper().rpartition(".")
        if not equals or not key or section not in ("", *SCHEMAS):
            text = f"found '{override}'; write KEY=VALUE or TESTING.KEY=VALUE"
            problems.append(Problem(OVERRIDES, "", "", text))
            continue
        wanted = [section] if section else list(SCHEMAS)
        targets = [name for name in wanted if key in KEYS[name]]
        if not targets:
            problems.append(Problem(OVERRIDES, section, key, _suggest(key, wanted)))
        for target in targets:
            if target in raw.sections:
                raw.sections[target][key] = value.strip()
                done.add((target, key))
    return done


def _suggest(key: str, sections: Sequence[str]) -> str:
    elsewhere = [name for name in SCHEMAS if name not in sections and key in KEYS[name]]
    if elsewhere:
        return f"belongs into [{elsewhere[0]}]; move it there"
    known = sorted(set().union(*(KEYS[section] for section in sections)))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"unknown key; the nearest known one is {near[0]}" if near else "unknown key"


def _unknown_keys(raw: RawConfig) -> list[Problem]:
    everywhere = set().union(*KEYS.values())
    problems = [
        Problem(raw.file, "DEFAULT", key, _suggest(key, list(SCHEMAS)))
        for key in sorted(raw.own["DEFAULT"] - everywhere)
    ]
    for section in raw.sections:
        for key in sorted(raw.own[section] - KEYS[section]):
            problems.append(Problem(raw.file, section, key, _suggest(key, [section])))
    return problems


def _validate(
    file: str,
    section: str,
    values: dict[str, str],
    overridden: set[tuple[str, str]],
    problems: list[Problem],
) -> SectionConfig | None:
    """Build one section's config; what does not fit is appended to ``problems``."""
    schema = SCHEMAS[section]

    def problem(key: str, text: str) -> Problem:
        return Problem(OVERRIDES if (section, key) in overridden else file, section, key, text)

    try:
        config: SectionConfig | None = schema.model_validate(values)
        checked: object = config
    except ValidationError as error:
        invalid = dict.fromkeys(str(detail["loc"][0]) for detail in error.errors())
        problems += [problem(name.upper(), _expectation(schema, name, values)) for name in invalid]
        config, checked = None, _valid_part(schema, values, set(invalid))
    found = [problem(key, text) for key, text in contradictions(checked)]
    problems += found
    return None if found else config


def _valid_part(
    schema: type[SectionConfig], values: dict[str, str], invalid: set[str]
) -> BaseModel:
    """The fields that are valid one by one, so that their contradictions are reported too."""
    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for name, field in schema.model_fields.items()
        if name not in invalid
    }
    part = create_model("Part", __config__=ConfigDict(protected_namespaces=()), **fields)
    return part.model_validate({key: values[key] for key in values if key in fields})


def _expectation(schema: type[SectionConfig], name: str, values: dict[str, str]) -> str:
    expected = schema.model_fields[name].description
    if name not in values:
        return f"missing; give {expected}"
    value = values[name]
    hint = " (comments need a line of their own)" if " ;" in value or " #" in value else ""
    return f"found {value!r}; give {expected}{hint}"


def ini_text(config: Config) -> str:
    """The resolved configuration as INI text: every key, defaults included; loads back equal."""
    lines = []
    for section, values in (("TRAINING", config.training), ("TESTING", config.testing)):
        if values is not None:
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}".rstrip() for key, value in ini_values(values).items()]
            lines.append("")
    return "\n".join(lines)


def ini_values(section: SectionConfig) -> dict[str, str]:
    """INI key → value as text, for every key of a section."""
    return {name.upper(): _as_text(getattr(section, name)) for name in type(section).model_fields}


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
