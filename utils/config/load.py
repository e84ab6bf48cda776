"""INI files to validated config objects; every problem of a file is reported at once."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, NoReturn, cast

from pydantic import TypeAdapter, ValidationError

from utils.config.criteria import KINDS
from utils.config.ini import DEFAULT, SECTIONS, RawConfig, read_ini
from utils.config.messages import expectation, unknown_key, unknown_keys, unknown_sections
from utils.config.schema import SCHEMAS, SectionConfig, TestingConfig, TrainingConfig, keys_of
from utils.errors import ConfigError, Problem

OVERRIDES = "--set"
_Problems = list[tuple[str, str]]


@dataclass(frozen=True)
class Config:
    """A configuration as scripts use it."""

    file: str  # the INI file as the user gave it
    training: TrainingConfig | None  # the section [TRAINING], None if the file has none
    testing: TestingConfig | None  # the section [TESTING], None if the file has none

    def need_training(self) -> TrainingConfig:
        """The section [TRAINING]; a ConfigError if the file has none."""
        return self.training or _missing(self.file, "TRAINING")

    def need_testing(self) -> TestingConfig:
        """The section [TESTING]; a ConfigError if the file has none."""
        return self.testing or _missing(self.file, "TESTING")


def _missing(file: str, section: str) -> NoReturn:
    text = f"missing; add a section [{section}], as in configs/demo.ini"
    raise ConfigError([Problem(file, section, "", text)])


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Read an INI file, derive the keys that it leaves out, and check it.

    Args:
        path: An INI file in the published form, or one that shares keys through [DEFAULT].
        overrides: ``KEY=VALUE`` (every section that knows the key) or ``SECTION.KEY=VALUE``.

    Raises:
        ConfigError: With the first syntax error; else with all unknown names, wrong values, and
            contradictions between keys and with backbones.
    """
    raw = read_ini(Path(path))
    problems: list[Problem] = []
    overridden = _apply_overrides(raw, overrides, problems)
    unknown = unknown_sections(raw)
    problems += unknown + unknown_keys(raw)
    if not raw.sections and not problems:
        text = "has no sections; add [TRAINING], [TESTING] or both"
        problems.append(Problem(raw.file, "", "", text))
    known: dict[str, Any] = {}
    for section in [name for name in SECTIONS if name in raw.sections]:
        known[section], found, missing = _resolve(raw, section, known.get("TRAINING"))
        # They may be in a section with a wrong name.
        found += [] if unknown else missing
        problems += [_placed(raw, section, key, text, overridden) for key, text in found]
    if problems:
        # A problem in [DEFAULT], or in an override of both, is found in each section.
        raise ConfigError(list(dict.fromkeys(problems)))
    sections = {
        name: SCHEMAS[name].model_construct(
            **{field: getattr(keys, field) for field in SCHEMAS[name].model_fields}
        )
        for name, keys in known.items()
    }
    return Config(raw.file, cast(Any, sections.get("TRAINING")), cast(Any, sections.get("TESTING")))


def _apply_overrides(
    raw: RawConfig, overrides: Sequence[str], problems: list[Problem]
) -> dict[tuple[str, str], str]:
    """Write the overrides into ``raw.sections``; (section, key) → the section that was written."""
    done: dict[tuple[str, str], str] = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        section, _, key = name.strip().upper().rpartition(".")
        if not equals or not key or section not in ("", *SCHEMAS):
            text = f"found '{override}'; write KEY=VALUE or TESTING.KEY=VALUE"
            problems.append(Problem(OVERRIDES, "", "", text))
            continue
        wanted = [section] if section else list(SCHEMAS)
        targets = [name for name in wanted if key in keys_of(name)]
        if not targets:
            problems.append(Problem(OVERRIDES, section, key, unknown_key(key, wanted)))
        present = [target for target in targets if target in raw.sections]
        if targets and not present:
            text = f"the file has no section [{targets[0]}] to set it in"
            problems.append(Problem(OVERRIDES, targets[0], key, text))
        for target in present:
            raw.sections[target][key] = value.strip()
            done[target, key] = section
    return done


def _placed(
    raw: RawConfig, section: str, key: str, text: str, overridden: Mapping[tuple[str, str], str]
) -> Problem:
    """A problem of a section, where the user wrote the key."""
    if (section, key) in overridden:
        return Problem(OVERRIDES, overridden[section, key], key, text)
    shared = key in raw.own[DEFAULT] and key not in raw.own[section]
    return Problem(raw.file, DEFAULT if shared else section, key, text)


def _resolve(raw: RawConfig, section: str, training: Any) -> tuple[Any, _Problems, _Problems]:
    """The known keys of a section; pairs of a key and its problem; the missing keys.

    Attributes of the first are the keys with a value; it is complete if nothing is wrong.
    """
    # All three import torch through timm; syntax errors are reported without it.
    from utils.config.derive import derive
    from utils.config.geometry import geometry_problems
    from utils.config.rules import contradictions

    schema, texts = SCHEMAS[section], raw.sections[section]
    values, wrong = _read_values(schema, texts)
    known: Any = SimpleNamespace(
        **values, section=section, file=Path(raw.file), training=training, wrong=wrong
    )
    unwritten = derive(known, schema.model_fields)
    problems, missing = (
        [(name.upper(), expectation(schema, name, texts)) for name in names]
        for names in (wrong, unwritten)
    )
    problems += contradictions(known, KINDS[section]) + geometry_problems(known, KINDS[section])
    return known, problems, missing


def _read_values(
    schema: type[SectionConfig], texts: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Values of the keys that are written or have a default; names whose text is not valid."""
    values: dict[str, Any] = {}
    wrong = []
    for name, field in schema.model_fields.items():
        if name.upper() in texts:
            try:
                values[name] = _reader(schema, name).validate_python(texts[name.upper()])
            except ValidationError:
                wrong.append(name)
        elif not field.is_required():
            values[name] = field.default
    return values, wrong


@functools.cache
def _reader(schema: type[SectionConfig], name: str) -> TypeAdapter[Any]:
    field = schema.model_fields[name]
    annotated: Any = Annotated[field.annotation, field.description, *field.metadata]
    return TypeAdapter(annotated)


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
    return {name.upper(): as_text(getattr(section, name)) for name in type(section).model_fields}


def as_text(value: object) -> str:
    """A value as text in an INI file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple | list):
        return ", ".join(str(item) for item in value)
    return str(value)
