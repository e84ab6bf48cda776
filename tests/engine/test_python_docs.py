"""The Python of the README and of docs/python.md runs as it stands, one block after the other."""

import re
import shutil
from pathlib import Path
from textwrap import dedent

import numpy as np

from tests.medical_files import write_dicom, write_nifti

ROOT = Path(__file__).parents[2]
README, PAGE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/python.md")
)


def test_the_blocks_of_both_pages_run(trained, tmp_path, monkeypatch, capsys):
    trained()
    (tmp_path / "configs").mkdir()
    shutil.copy(tmp_path / "tiny.ini", tmp_path / "configs" / "mine.ini")
    shutil.copytree(tmp_path / "data" / "test" / "good" / "img", tmp_path / "scans")
    draw = np.random.default_rng(0)
    for name in ("scan.dcm", "new_scan.dcm"):
        write_dicom(tmp_path / name, draw.integers(0, 4000, (40, 50), dtype=np.uint16))
    write_nifti(tmp_path / "volume.nii.gz", draw.integers(0, 255, (32, 32, 4), dtype=np.int16))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    blocks += map(dedent, re.findall(r"^    from engine.*\n(?:    .*\n)+", README, re.MULTILINE))
    assert len(blocks) == 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    said = capsys.readouterr().out
    assert len(re.findall(r"^[\d.]+ (?:True|False) \(40, 50\)$", said, re.MULTILINE)) == 2
    assert "missing.png: no such file" in said
    assert len(list((tmp_path / "scans").glob("*.npy"))) == 4
