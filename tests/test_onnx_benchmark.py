"""The benchmark of onnxruntime beside PyTorch works on tiny settings."""

import json

import torch

from benchmarks import onnx


class Means(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.float().mean((1, 2, 3)), images.float().mean(1)


def test_both_runtimes_are_measured(tiny, tmp_path, capsys, monkeypatch):
    # In place of the model, whose export takes half a minute; tests/engine/test_export.py has it.
    example = torch.zeros(2, 3, 40, 40, dtype=torch.uint8)
    names = {"input_names": ["images"], "output_names": ["scores", "anomaly_maps"]}
    program = torch.onnx.export(Means().eval(), (example,), verbose=False, **names)
    monkeypatch.setattr(onnx, "as_onnx", lambda *_: program)
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
