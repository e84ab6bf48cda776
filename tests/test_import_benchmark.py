"""The benchmark of imports measures both, and writes what it has measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import imports


def test_both_imports_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of the standard library: the real ones take seconds each.
    monkeypatch.setattr(imports, "ALONE", "colorsys")
    monkeypatch.setattr(imports, "OURS", "turtledemo")
    imports.main(["--rounds", "3", "--json", str(tmp_path / "imports.json")])
    content = json.loads((tmp_path / "imports.json").read_text())
    assert [len(times["clock"]) for times in content["seconds"].values()] == [3, 3]
    assert capsys.readouterr().out.count(f"ratio {content['ratio']['clock']:.2f}") >= 1
    assert content["machine"]["torch"]
