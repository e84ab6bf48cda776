"""Prediction: images without labels, broken ones among them."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.folders.find import find_split
from engine.evaluate.calibration import calibrate_trained, load_calibration
from engine.predict import predict
from engine.test import test as run_test
from engine.train.start import create_trainer, train
from utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trained(tiny):
    config = tiny("N_EPOCHS=1")
    train(config)
    calibrate_trained(config)
    return tiny


@pytest.fixture
def folder(tmp_path, phantoms) -> Path:
    """Images as they come: nested, of another size, in colour, one of them broken."""
    folder = tmp_path / "inputs"
    shutil.copytree(phantoms / "test" / "good" / "img", folder)
    (folder / "sub").mkdir()
    first = sorted(folder.glob("*.png"))[0]
    Image.open(first).resize((50, 40)).convert("RGB").save(folder / "sub" / "wide.jpg")
    (folder / "broken.png").write_bytes(first.read_bytes()[:100])
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_gives_scores_maps_overlays_and_errors(trained, folder, tmp_path):
    out = tmp_path / "out"
    assert predict(trained(), folder, out, recursive=True) == 1
    rows, errors = read(out / "scores.csv"), read(out / "errors.csv")
    assert len(rows) == 5
    assert [Path(row["path"]).name for row in errors] == ["broken.png"]
    threshold = load_calibration(trained().testing).threshold
    for row in rows:
        assert row["predicted"] == str(int(float(row["score"]) >= threshold))
        size = Image.open(row["path"]).size
        anomaly_map = np.load(out / row["map"], allow_pickle=False)
        assert anomaly_map.dtype == np.float32
        assert anomaly_map.shape == size[::-1]
        overlay = Image.open(out / row["overlay"])
        assert (overlay.size, overlay.mode) == (size, "RGB")
    assert (out / "legend.png").stat().st_size > 0
    assert "broken.png" in (out / "report.html").read_text()


def test_subfolders_are_searched_only_when_asked(trained, folder, tmp_path):
    predict(trained(), folder, tmp_path / "out", recursive=False)
    assert not any("wide" in row["path"] for row in read(tmp_path / "out" / "scores.csv"))


def test_scores_equal_those_of_the_test(trained, phantoms, tmp_path):
    run = run_test(trained())
    predict(trained(), phantoms / "test" / "good" / "img", tmp_path / "out", recursive=False)
    tested = {
        Path(sample.name).name: score
        for sample, score in zip(run.split.samples, run.scores, strict=True)
        if sample.label == 0
    }
    predicted = {
        Path(row["path"]).name: float(row["score"]) for row in read(tmp_path / "out" / "scores.csv")
    }
    assert predicted == pytest.approx(tested, rel=1e-5)


def test_an_image_has_one_score_whoever_asks(tiny, phantoms, tmp_path):
    """Alone, in a batch of eight, after a calibration, after an epoch, in another process."""
    source = sorted((phantoms / "test" / "Ungood" / "img").iterdir())[0]
    copies = tmp_path / "copies"
    copies.mkdir()
    for index in range(8):
        shutil.copy(source, copies / f"{index}.png")
    config = tiny("N_EPOCHS=1", "BATCH_SIZE_TEST=8")
    trainer = create_trainer(config)
    assert trainer.scorer.model is trainer.model, "never Fabric's or DDP's wrapper"
    trainer.run()
    image = trainer.dataset.of(find_split(phantoms / "test", key="TEST_DATA_PATH"), config.testing)
    index = [sample.path.name for sample in image.split.samples].index(source.name)
    trainer.forward.train()
    after_epoch = trainer.scorer.score(image[index]["image"][None], [source.name]).scores.tolist()

    def scores(name: str, source: Path) -> list[float]:
        predict(config, source, tmp_path / name, recursive=False)
        return [float(row["score"]) for row in read(tmp_path / name / "scores.csv")]

    in_eight_with_calibration = scores("eight", copies)
    alone = scores("alone", source)
    command = ["run_predict.py", "--config", str(tmp_path / "tiny.ini"), "--input", str(source)]
    command += ["--output", str(tmp_path / "process"), "--set", "BATCH_SIZE_TEST=8"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True)
    elsewhere = [float(row["score"]) for row in read(tmp_path / "process" / "scores.csv")]
    assert len(in_eight_with_calibration) == 8
    found = [*after_epoch, *in_eight_with_calibration, *alone, *elsewhere]
    assert found == pytest.approx([alone[0]] * 11, rel=1e-6)


def test_one_file(trained, folder, tmp_path):
    file = sorted(folder.glob("0*.png"))[0]
    assert predict(trained(), file, tmp_path / "out", recursive=False) == 0
    assert [row["path"] for row in read(tmp_path / "out" / "scores.csv")] == [str(file)]


def test_without_validation_images_there_is_no_verdict_and_no_overlay(tiny, folder, tmp_path):
    train(tiny("N_EPOCHS=1"))
    out = tmp_path / "out"
    predict(tiny(f"VAL_DATA_PATH={tmp_path / 'none'}"), folder, out, recursive=False)
    rows = read(out / "scores.csv")
    assert {(row["predicted"], row["overlay"]) for row in rows} == {("", "")}
    assert all((out / row["map"]).is_file() for row in rows)
    assert not (out / "overlays").exists()


def test_results_of_a_test_are_not_replaced(trained, folder):
    config = trained()
    run_test(config)
    with pytest.raises(UserError, match=r"test holds the results of a test"):
        predict(config, folder, config.testing.results_path, recursive=False)


def test_one_process_predicts_whatever_devices_says(trained, folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("lightning_fabric.Fabric.launch", lambda fabric: started.append(fabric))
    predict(trained("DEVICES=2"), folder, tmp_path / "out", recursive=False)
    assert [fabric.world_size for fabric in started] == [1]


def test_equal_scores_need_no_order_of_pictures(trained, folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise UserError("disk full")

    monkeypatch.setattr("engine.predict.PredictionFiles.write_image", refuse)
    monkeypatch.setattr(
        "engine.evaluate.scorer.image_scores", lambda maps, *_: maps[0, :, 0, 0, 0] * 0
    )
    assert predict(trained(), folder, tmp_path / "out", recursive=False) == 5


def test_results_inside_the_input_are_refused(trained, folder):
    with pytest.raises(UserError, match="lies inside --input"):
        predict(trained(), folder, folder / "out", recursive=True)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_predict(trained, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        predict(trained(), tmp_path / name, tmp_path / "out", recursive=False)


def test_names_that_are_too_long_for_a_suffix(trained, folder, tmp_path):
    first = sorted(folder.glob("0*.png"))[0]
    long_names = [f"{'x' * 245}{index}.png" for index in range(2)]
    source = tmp_path / "long"
    source.mkdir()
    for name in long_names:
        shutil.copy(first, source / name)
    assert predict(trained(), source, tmp_path / "out", recursive=False) == 0
    rows = read(tmp_path / "out" / "scores.csv")
    assert len({row["map"] for row in rows}) == 2
