"""The check of a GPU, tried out without one."""

import json

import pytest

from benchmarks import gpu_check


@pytest.fixture
def quick(monkeypatch):
    """All that takes minutes, replaced by what it would have found."""
    figures = {"this code": {"train": {"images / s": 2.0}}}
    monkeypatch.setattr(gpu_check, "parity", lambda device: {"exit": 0, "said": f"on {device}"})
    monkeypatch.setattr(gpu_check, "speed", lambda *_, compare: figures)
    monkeypatch.setattr(gpu_check, "feeding", lambda: {"1 processes": 3.0})


@pytest.mark.usefixtures("quick")
def test_every_part_lands_in_the_file(tmp_path):
    file = tmp_path / "gpu.json"
    gpu_check.main(["--device", "cpu", "--batches", "4", "16", "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["machine"]["card"] == "cpu"
    assert found["parity"] == {"exit": 0, "said": "on cpu"}
    assert found["batch 4"] == found["batch 16"] == found["compiled"]
    assert found["loader, images / s"] == {"1 processes": 3.0}
    assert found["goals"]["train"] == 8


@pytest.mark.usefixtures("quick")
def test_what_no_time_is_left_for_is_said(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    gpu_check.main(["--device", "cpu", "--batches", "4", "--minutes", "0", "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["parity"] == found["compiled"] == "not measured: no time left"
    assert "parity: no time left" in capsys.readouterr().out


@pytest.mark.slow
def test_all_of_it_runs_on_a_cpu(tiny, tmp_path):
    file = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--batches", "2", "--steps", "1", "--minutes", "60"]
    gpu_check.main(["--config", str(tiny().file), *options, "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["parity"]["exit"] == 0
    assert " passed" in found["parity"]["said"]
    assert set(found["batch 2"]) == {"this code", "as published"}
    assert found["batch 2"]["this code"]["train"]["images / s"] > 0
    assert min(found["loader, images / s"].values()) > 0
    assert found["compiled"]["this code"]["test"]["images / s"] > 0
