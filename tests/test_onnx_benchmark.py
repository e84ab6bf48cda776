"""The benchmark of onnxruntime beside PyTorch works on tiny settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import onnx
from utils.config.load import Config


def test_both_runtimes_are_measured(
    tiny: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "times.json"
    options = "--batch 2 --side 40 --threads 1 --rounds 3"
    onnx.main(["--config", tiny().file, "--json", str(file), *options.split()])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["config"] == "tiny.ini"
    assert {name: len(times) for name, times in found["seconds"].items()} == {
        "PyTorch": 3,
        "onnxruntime": 3,
    }
    assert all(each > 0 for times in found["seconds"].values() for pair in times for each in pair)
    printed = capsys.readouterr().out
    assert "| `tiny.ini` | 2 | 1 | the clock | " in printed
    assert "| `tiny.ini` | 2 | 1 | the processor | " in printed
