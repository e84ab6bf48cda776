"""The rooms of the house: which imports which, and what a script may cost before it starts."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.processes import ROOT, python

SCRIPTS = sorted(ROOT.glob("*.py"))
# Room → rooms that it may import besides itself.
ROOMS = {
    "app": {"engine", "datasets", "utils"},
    "engine": {"models", "datasets", "utils"},
    "models": {"utils"},
    "datasets": {"utils"},
    "utils": set(),
}
# Folders of engine, the lower floors first; those of one floor do not know one another.
FLOORS = [
    ("runtime",),
    ("metrics",),
    ("evaluate",),
    ("report", "train"),
    ("testing", "prediction", "export", "benchmark"),
]
FOLDERS = {folder: level for level, floor in enumerate(FLOORS) for folder in floor}
# All that the page knows of the engine: it scores, and it colours maps.
KNOWN_TO_APP = {"engine.predictor", "engine.report.pictures"}
MOST_FILES = 12
LONGEST_SCRIPT = 60

# Runs a script's --help and says which heavy modules that took.
HELP = """
import runpy, sys
script = sys.argv[1]
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
else:
    raise AssertionError("--help did not end the script")
heavy = {"torch", "torchvision", "timm", "lightning_fabric", "numpy", "cv2", "gradio"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""

# Runs a script up to its first line on the screen, and says which heavy modules that took.
FIRST_LINE = """
import io, runpy, sys
class Screen(io.StringIO):
    def write(self, text):
        heavy = {"torch", "timm", "cv2", "pydantic"} & set(sys.modules)
        print(text, heavy or "", file=sys.stderr)
        raise SystemExit
sys.stdout = Screen()
script = sys.argv[1]
sys.argv = [script, "--config", "configs/demo.ini", *sys.argv[2:]]
runpy.run_path(script, run_name="__main__")
"""

# What training, metrics and reports need: prediction from Python does not wait for it.
PREDICTOR = """
import sys
import engine.predictor
heavy = {"lightning_fabric", "matplotlib", "pandas", "scipy", "sklearn", "tensorboard"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""

LIBRARIES = """
import pathlib
import huggingface_hub, lightning_fabric, timm, torchvision
timm.create_model("test_vit")
import datasets
folder = pathlib.Path(datasets.__path__[0]).resolve()
assert folder == pathlib.Path("datasets").resolve(), folder
"""


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imports, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def modules_of(file: Path) -> set[str]:
    return set(imported_modules(ast.parse(file.read_text(encoding="utf-8"), str(file))))


def imports_of(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in modules_of(file)}


@cache
def help_of(script: str) -> str:
    run = python("-c", HELP, script)
    assert run.returncode == 0, run.stderr
    return run.stdout


def files_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def test_every_room_is_there() -> None:
    assert SCRIPTS
    assert all(len(files_of(room)) > 1 for room in ROOMS)
    assert {file.parent.name for file in (ROOT / "engine").glob("*/*.py")} == set(FOLDERS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards_only(room: str) -> None:
    # "" stands for relative imports: files are named from the root.
    above = {*ROOMS, *(script.stem for script in SCRIPTS), "tests", "benchmarks", ""}
    forbidden = above - ROOMS[room] - {room}
    found = {str(file.relative_to(ROOT)): imports_of(file) & forbidden for file in files_of(room)}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_in_engine_run_downwards_only(folder: str) -> None:
    level = FOLDERS[folder]
    above = tuple(f"engine.{each}" for each in FOLDERS if FOLDERS[each] >= level and each != folder)
    # The report gets finished pictures: it never sees a model.
    above += ("models", "engine.evaluate.scorer") if folder == "report" else ()
    found = {file.name: modules_of(file) for file in files_of(f"engine/{folder}")}
    assert {
        name for name, modules in found.items() if any(m.startswith(above) for m in modules)
    } == set()


def test_the_page_knows_the_predictor_alone() -> None:
    found = {each for file in files_of("app") for each in modules_of(file) if "engine" in each}
    assert found <= KNOWN_TO_APP


def test_no_circle_of_imports() -> None:
    files = [file.relative_to(ROOT) for room in ROOMS for file in files_of(room)]
    names = {".".join(file.with_suffix("").parts): file for file in files}
    graph = {name: modules_of(ROOT / file) & names.keys() for name, file in names.items()}
    TopologicalSorter(graph).prepare()


def test_no_folder_is_too_full() -> None:
    folders = {file.parent for room in ROOMS for file in files_of(room)}
    found = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder.name: count for folder, count in found.items() if count > MOST_FILES} == {}


def test_no_script_imports_another() -> None:
    names = {script.stem for script in SCRIPTS}
    found = {script.name: imports_of(script) & (names | {"tests", ""}) for script in SCRIPTS}
    assert {file: names for file, names in found.items() if names} == {}


def test_models_know_no_files_and_no_logging() -> None:
    unwanted = {"argparse", "logging", "pathlib", "os", "shutil", "tempfile"}
    found = {file.name: imports_of(file) & unwanted for file in files_of("models")}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) <= LONGEST_SCRIPT


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_help_is_there_and_waits_for_nothing_heavy(script: Path) -> None:
    assert "usage:" in help_of(script.name)


def test_prediction_from_python_imports_no_more_than_it_needs() -> None:
    run = python("-c", PREDICTOR)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("script", ["run_training.py", "run_test.py", "run_predict.py"])
def test_the_first_line_waits_for_nothing_heavy(script: str) -> None:
    run = python("-c", FIRST_LINE, script, *(["--input", "x"] if "predict" in script else []))
    assert run.stderr.strip() == "loading PyTorch and configs/demo.ini"


def test_libraries_that_look_for_a_package_named_datasets_take_no_harm() -> None:
    run = python("-c", LIBRARIES)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import engine.train.start", {"engine.train.start"}),
        ("from models import qformer", {"models"}),
        ("def f():\n    import utils.config.load as c", {"utils.config.load"}),
        ("from . import neighbour", {"."}),
    ],
)
def test_imports_are_found(line: str, expected: set[str]) -> None:
    assert set(imported_modules(ast.parse(line))) == expected
