"""Every command of the README and of docs/, run as it stands, with small stand-ins for data."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.config_helpers import SHORT, STAND_INS
from tests.medical_files import write_dicom
from tests.series_files import write_slice
from tests.test_docs import TEXTS, code_of

ROOT = Path(__file__).parent.parent
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?"
    r"(?:python3?|make|pip|pytest|torchrun|fabric|srun|conda|source|pre-commit) .*"
)
# What a test cannot run, and why. Arguments of our own programs in it are parsed all the same.
NOT_RUN = {
    r"make (setup|test|lint|soak)|pytest": "sets up, or runs the tests themselves",
    r"python3 -m venv|\S*pip|conda|source|pre-commit": "sets an environment up",
    r"make demo": "minutes; tests/datasets/phantom and this file run its parts",
    r"make app|python run_app": "serves until it is stopped; tests/app",
    r"python export_model\.py": "half a minute; tests/engine/test_export.py calls the script",
    r".*seed0\.pth": "needs three trainings; tests/engine/evaluate/test_ensemble.py",
    r".*BASELINE=": "a second test; tests/engine/evaluate/test_baseline.py",
    r"make gpu-check": "measures a GPU; tests/test_gpu_check.py",
    r"make reproduce|.*hf://": "downloads; tests/utils/test_hub.py has a stand-in for the hub",
    r".*DEVICES=4": "needs GPUs; tests/engine/test_processes.py trains with two processes",
    r"python run_benchmark\.py": "six trainings; tests/engine/test_run_benchmark.py runs one",
    r"(\w+=\S+ )?python -m benchmarks": "measures for minutes; tests/test_benchmarks.py",
    r"python -m utils\.config\.docs_tables": "writes into docs/; tests/test_docs.py compares",
}
# What makes the longest commands short.
TINY_TRAINING = [part for each in STAND_INS for part in ("--set", each)]
SPLITS = ("train", "valid-good", "valid-ungood", "test-good", "test-ungood")
TINY_VOLUMES = ["--size=24", "--slices=20", *(f"--{split}=1" for split in SPLITS)]
# One process for all commands: most of a command's time is the import of torch.
RUN_ALL = """
import argparse, json, runpy, shutil, sys
parse = argparse.ArgumentParser.parse_args
def parse_only(*arguments):
    parse(*arguments)
    sys.exit()
for command, only_parsed in json.loads(sys.argv[1]):
    argparse.ArgumentParser.parse_args = parse_only if only_parsed else parse
    # Results of the command before would be in the way, as they should be.
    if command[0].endswith("run_predict.py"):
        for folder in ("out", "results/mine/test/predictions"):
            shutil.rmtree(folder, ignore_errors=True)
    print("$", *command, flush=True)
    try:
        if command[0] == "-c":
            exec(command[1])
        elif command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        if error.code:
            sys.exit(f"{command}: left with {error.code}")
"""


def commands_of(document: str) -> list[str]:
    """The commands of a document, without the comments behind them, in their order."""
    lines = code_of(re.sub(r"\\\n *", "", TEXTS[document]))
    parts = [part for line in lines for part in line.partition(" # ")[0].split(" && ")]
    return [part.strip() for part in parts if COMMAND.fullmatch(part.strip())]


COMMANDS = list(dict.fromkeys(each for document in TEXTS for each in commands_of(document)))


def is_run(command: str) -> bool:
    return not any(re.match(pattern, command) for pattern in NOT_RUN)


def our_calls(command: str) -> Iterator[list[str]]:
    """Arguments of Python, where one of our own scripts or modules is called."""
    if command.startswith("make "):
        target = shlex.split(command)[1]
        run = ["make", "--dry-run", "--always-make", target]
        made = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
        for line in made.stdout.replace("\\\n", " ").splitlines():
            yield from our_calls(line)
    script = re.search(r"(\b[\w/]+\.py\b|-m (datasets|benchmarks|utils)\.\S+|-c \").*", command)
    if script:
        first, *others = shlex.split(script[0])
        yield [str(ROOT / first) if first.endswith(".py") else first, *others]


@pytest.fixture
def place(phantoms: Path, tmp_path: Path) -> Path:
    """A folder with everything that documents name: images, scans, a config."""
    for name, prefix in (("mine", ""), ("Brain", "BraTS2021_")):
        shutil.copytree(phantoms, tmp_path / "data" / name)
        for number, path in enumerate(sorted((tmp_path / "data" / name).rglob("img/*.png"))):
            for each in (path, path.parents[1] / "label" / path.name):
                if each.is_file():
                    each.rename(each.with_name(f"{prefix}{number:03}_0.png"))
    shutil.copytree(phantoms, tmp_path / "data" / "Liver")
    (tmp_path / "configs").mkdir()
    brain = SHORT.replace("data/", "data/Brain/")
    (tmp_path / "configs" / "brain.ini").write_text(brain, encoding="utf-8")
    image = next((phantoms / "test" / "Ungood" / "img").iterdir())
    (tmp_path / "folder").mkdir()
    shutil.copy(image, tmp_path / "folder")
    shutil.copy(image, tmp_path / "scan.png")
    pixels = np.random.default_rng(0).integers(0, 900, (24, 30), np.uint16)
    write_dicom(tmp_path / "new_scan.dcm", pixels)
    write_dicom(tmp_path / "more" / "a.dcm", pixels)
    for number in range(3):
        write_slice(tmp_path / "scans" / f"{number}.dcm", pixels, (0, 0, number), series="1.2.3")
    return tmp_path


def test_every_command_runs_or_stands_in_the_table(place: Path) -> None:
    calls = []
    for command in COMMANDS:
        for arguments in our_calls(command):
            if is_run(command) and Path(arguments[0]).name.startswith("run_"):
                arguments += TINY_TRAINING
            elif is_run(command) and "datasets.phantom.write_volumes" in arguments:
                arguments += TINY_VOLUMES
            calls.append((arguments, not is_run(command)))
    run = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(calls)],
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^score \S+: \w+ \(threshold \S+\); map: results/mine", run.stdout, re.M)
    made = ("results/mine/training.csv", "results/mine/test/report.html", "out/volumes.csv")
    assert [name for name in made if not (place / name).is_file()] == []


def test_commands_are_found_and_each_is_ours_or_in_the_table() -> None:
    assert len([command for command in COMMANDS if is_run(command)]) > 10
    assert [each for each in COMMANDS if is_run(each) and not [*our_calls(each)]] == []
    used = {pattern for pattern in NOT_RUN for each in COMMANDS if re.match(pattern, each)}
    assert used == set(NOT_RUN)


def test_the_ten_lines_of_the_readme_are_those_that_are_tested() -> None:
    blocks = re.findall(r"(?:^    .*\n)+", TEXTS["README.md"], re.MULTILINE)
    (block,) = [each for each in blocks if "[DEFAULT]" in each]
    lines = [line.strip() for line in block.splitlines()]
    assert len(lines) <= 10
    assert lines[1] == "MODEL_NAME = vit_small_patch14_reg4_dinov2.lvd142m"
    ours = SHORT.replace("data/", "data/mine/").splitlines()
    assert [*lines[:1], *lines[2:]] == [*ours[:1], *ours[2:]]
