"""The benchmarks of the loader and of file formats work on tiny settings."""

import json

import pytest

from benchmarks import feeding, loader


def test_each_mode_is_measured(capsys):
    options = "--images 6 --side 64 --workers 0 --resize 16 --batch 3 --epochs 2"
    loader.main(options.split())
    # Lines about the cache stand between the rows where an earlier test has set up logging.
    printed = capsys.readouterr().out.splitlines()
    head, _, *rows = [line for line in printed if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(head.strip("|").split("|")) == 5
    assert [row[:2] for row in cells] == [[name, "0"] for name in loader.MODES]
    # Preparing may round to 0.00 s; images / s do not.
    assert all(float(row[2]) >= 0 and min(map(float, row[3:])) > 0 for row in cells)


def test_an_epoch_alone_is_refused(capsys):
    with pytest.raises(SystemExit):
        loader.main(["--epochs", "1"])
    assert "--epochs: give 2 or more" in capsys.readouterr().err


def test_each_format_and_decoder_is_measured(tmp_path, monkeypatch, capsys):
    small = {name: (32, suffix) for name, (_, suffix) in feeding.FORMATS.items()}
    monkeypatch.setattr(feeding, "FORMATS", small)
    feeding.main(["--images", "3", "--rounds", "2", "--json", str(tmp_path / "feeding.json")])
    content = json.loads((tmp_path / "feeding.json").read_text())
    assert list(content["stages"]) == list(small)
    for rates in content["stages"].values():
        assert list(rates) == ["decode", "resize", "augment", "all"]
        assert all(len(each) == 2 and min(each) > 0 for each in rates.values())
        assert max(rates["all"]) < max(rates["decode"])
    assert list(content["decoders"]) == [name for name in small if "PNG" in name or "JPEG" in name]
    for rates in content["decoders"].values():
        assert {"Pillow", "OpenCV", "imagecodecs", "torchvision"} <= rates.keys()
    assert len(capsys.readouterr().out.splitlines()) == 4 + len(small) + len(content["decoders"])
