"""pyproject.toml, constraints.txt and environment.yml describe one environment."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.test_architecture import imports_of

ROOT = Path(__file__).parent.parent
FILES = ("pyproject.toml", "constraints.txt", "environment.yml")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
MAIN = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
REQUIREMENTS = [*MAIN, *(each for lines in EXTRAS.values() for each in lines)]
ROOMS = ("models", "datasets", "engine", "utils", "app", "benchmarks", "tests")
# Imported here, declared by another distribution that is declared.
COME_ALONG = {
    "huggingface-hub": "timm",
    "markupsafe": "jinja2",
    "onnx-ir": "onnxscript",
    "packaging": "pytest",
    "pyyaml": "pre-commit",
}
# Needed without being imported by name: torch.utils.tensorboard.
NEEDED_BY_OTHERS = {"tensorboard"}


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


PINS = {
    canonicalize_name(name): Version(version)
    for name, _, version in (line.partition("==") for line in constraint_lines())
}


def name_of(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)


def lowest_python() -> str:
    (only,) = SpecifierSet(PROJECT["requires-python"])
    assert only.operator == ">="
    return only.version


def pip_lines() -> list[str]:
    (lines,) = [each["pip"] for each in CONDA["dependencies"] if isinstance(each, dict)]
    return list(lines)


def conda_packages() -> list[str]:
    return [each for each in CONDA["dependencies"] if isinstance(each, str)]


def test_constraints_are_exact_pins_and_each_stands_once() -> None:
    lines = constraint_lines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len(PINS) == len(lines)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_dependency_has_a_pin_in_its_range(requirement: Requirement) -> None:
    assert requirement.specifier, "without a lower bound anything goes"
    assert requirement.specifier.contains(PINS[name_of(requirement)])


def test_no_dependency_is_declared_twice() -> None:
    names = [name_of(requirement) for requirement in REQUIREMENTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", FILES)
def test_no_index_and_no_address(file: str) -> None:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    options = r"://|\s@\s|--[\w-]*index|--find-links|--trusted-host|[\s\"]-[if]\s"
    assert re.findall(options, text) == []
    assert [requirement.name for requirement in REQUIREMENTS if requirement.url] == []


def test_the_excluded_releases_of_fabric_stay_out() -> None:
    (fabric,) = [each for each in MAIN if name_of(each) == "lightning-fabric"]
    for version in ("2.6.2", "2.6.3"):
        assert not fabric.specifier.contains(version)
        assert PINS["lightning-fabric"] != Version(version)
    assert fabric.specifier.contains("2.6.1")


def test_conda_brings_python_and_leaves_the_rest_to_pyproject() -> None:
    names = {re.split(r"[<>=!~ ]", package)[0] for package in conda_packages()}
    assert names == {"python", "pip"}
    assert pip_lines() == ["-c constraints.txt", f"-e .[{','.join(EXTRAS)}]"]


@pytest.mark.parametrize("file", ["Makefile", "README.md"])
def test_pip_users_get_the_same_as_conda_users(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f'-c constraints.txt -e ".[{",".join(EXTRAS)}]"' in text


def test_python_versions_agree() -> None:
    lowest = lowest_python()
    (line,) = [each for each in conda_packages() if each.startswith("python")]
    (conda,) = re.findall(r"\d+\.\d+", line)
    assert SpecifierSet(PROJECT["requires-python"]).contains(conda)
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == lowest
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"sys.version_info < ({lowest.replace('.', ', ')})" in makefile
    assert f"Python {lowest} or newer" in makefile


def imported_names() -> set[str]:
    """Top-level modules that any file imports, ours and Python's own left out."""
    files = [*ROOT.glob("*.py"), *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    names = set().union(*map(imports_of, files))
    helpers = {file.stem for file in (ROOT / "tests").glob("*.py")}
    own = {*ROOMS, *helpers, *(script.stem for script in ROOT.glob("*.py"))}
    return names - own - set(sys.stdlib_module_names)


def imported_distributions() -> dict[str, set[str]]:
    """Imported module → distributions that bring it; empty for one that is not installed."""
    known = metadata.packages_distributions()
    return {
        name: {canonicalize_name(each) for each in known.get(name, ())} for name in imported_names()
    }


def test_every_import_is_declared() -> None:
    declared = {name_of(requirement) for requirement in REQUIREMENTS} | set(COME_ALONG)
    undeclared: dict[str, Any] = {
        name: found for name, found in imported_distributions().items() if not found & declared
    }
    assert undeclared == {}


@pytest.mark.parametrize(("name", "bringer"), COME_ALONG.items())
def test_what_comes_along_is_brought_by_what_is_declared(name: str, bringer: str) -> None:
    assert bringer in {name_of(requirement) for requirement in REQUIREMENTS}
    brought = {name_of(Requirement(line)) for line in metadata.requires(bringer) or ()}
    assert name in brought
    assert name in PINS


def test_every_dependency_earns_its_line() -> None:
    used = set().union(*imported_distributions().values()) | NEEDED_BY_OTHERS
    assert {name_of(requirement) for requirement in MAIN} - used == set()
