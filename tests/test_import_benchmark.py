"""The benchmarks of imports and of a start measure all parts, and write what they measured."""

import json

import pytest

from benchmarks import imports, start


def test_both_imports_are_measured(tmp_path, monkeypatch, capsys):
    # Of the standard library: the real ones take seconds each.
    monkeypatch.setattr(imports, "ALONE", "colorsys")
    monkeypatch.setattr(imports, "OURS", "turtledemo")
    imports.main(["--rounds", "3", "--json", str(tmp_path / "imports.json")])
    content = json.loads((tmp_path / "imports.json").read_text())
    assert [len(times["clock"]) for times in content["seconds"].values()] == [3, 3]
    assert capsys.readouterr().out.count(f"ratio {content['ratio']['clock']:.2f}") >= 1
    assert content["machine"]["torch"]


@pytest.mark.slow
def test_the_parts_of_a_start_are_measured(tiny, tmp_path):
    file = tmp_path / "start.json"
    start.main(["--config", tiny().file, "--rounds", "1", "--json", str(file)])
    seconds = {name: each[0] for name, each in json.loads(file.read_text())["seconds"].items()}
    total = seconds.pop("total")
    assert min(seconds.values()) >= 0
    assert total == pytest.approx(sum(seconds.values()))
