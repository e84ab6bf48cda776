"""The benchmark of the loader works on tiny settings."""

from __future__ import annotations

import pytest

from benchmarks import loader


def test_each_mode_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--images 6 --side 64 --workers 0 --resize 16 --batch 3 --epochs 2"
    loader.main(options.split())
    # Lines about the cache stand between the rows where an earlier test has set up logging.
    printed = capsys.readouterr().out.splitlines()
    head, _, *rows = [line for line in printed if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(head.strip("|").split("|")) == 5
    assert [row[:2] for row in cells] == [[name, "0"] for name in loader.MODES]
    assert all(float(cell) >= 0 for row in cells for cell in row[1:])
    assert all(float(row[4]) > 0 for row in cells)


def test_an_epoch_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        loader.main(["--epochs", "1"])
    assert "--epochs: give 2 or more" in capsys.readouterr().err
