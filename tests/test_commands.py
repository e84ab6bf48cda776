"""The commands of the README's way to one's own result, run as they stand, with small stand-ins."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.engine.test_short_config import STAND_INS

ROOT = Path(__file__).parent.parent
# One process for all commands: most of a command's time is the import of torch.
RUN_ALL = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        if error.code:
            raise
"""


def own_images() -> str:
    """The README's section on one's own images."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^## Your own images\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)[0]


def test_from_a_folder_of_images_to_a_map_of_a_new_one(phantoms: Path, tmp_path: Path) -> None:
    shutil.copytree(phantoms, tmp_path / "data" / "mine")
    image = next((phantoms / "test" / "Ungood" / "img").iterdir())
    shutil.copy(image, tmp_path / "new_scan.png")
    lines = re.findall(r"^ +python (\w+\.py .*)$", own_images(), re.MULTILINE)
    overrides = [part for each in STAND_INS for part in ("--set", each)]
    commands = []
    for line in lines:
        script, *arguments = shlex.split(line.replace("new_scan.dcm", "new_scan.png"))
        own = [] if script == "check_dataset.py" else overrides
        commands.append([str(ROOT / script), *arguments, *own])
    assert [Path(command[0]).stem for command in commands] == [
        "check_dataset",
        "run_training",
        "run_test",
        "run_predict",
    ]
    run = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(commands)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"^score [\d.e+-]+: (normal|anomalous); map: results/mine", run.stdout, re.M)
    for name in ("training.csv", "test/report.html", "test/predictions/maps/new_scan.png.npy"):
        assert (tmp_path / "results" / "mine" / name).is_file(), name


def test_the_ten_lines_of_the_readme_are_those_that_are_tested() -> None:
    block = re.findall(r"(?:^    .*\n)+", own_images().split("[docs/config.md]")[1], re.MULTILINE)[
        0
    ]
    keys = re.findall(r"^ +([A-Z_]+) = (.*)$", block, re.MULTILINE)
    assert len(keys) + block.count("[") <= 10
    assert keys[0] == ("MODEL_NAME", "vit_small_patch14_reg4_dinov2.lvd142m")
