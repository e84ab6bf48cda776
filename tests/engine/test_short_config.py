"""A config of ten lines trains, tests and predicts: everything else is derived."""

from pathlib import Path

import pytest

from engine.prediction.predict import Output, predict
from engine.testing.test import test as run_test
from engine.train.start import train
from tests.config_helpers import SHORT, STAND_INS
from utils.config.load import ini_text, load_config


def test_ten_lines_train_test_and_predict(
    tmp_path: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(phantoms)
    Path("mine.ini").write_text(SHORT, encoding="utf-8")
    config = load_config("mine.ini", STAND_INS)
    folder = train(config)
    assert (folder / "checkpoints" / "last_ckpt.pth").is_file()
    run_test(config)
    assert predict(config, [Path("data/test/Ungood")], Output(Path("maps")), recursive=True) == 0
    # The record of the run shows every key, and is a config of the same meaning.
    again = load_config("results/mine/config.ini")
    assert (again.training, again.testing) == (config.training, config.testing)
    assert Path("results/mine/test/config.ini").read_text("utf-8") == ini_text(config)
