"""Prediction: images without labels, broken ones among them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.folders.find import find_split
from engine.evaluate.calibration_file import load_calibration
from engine.prediction import results
from engine.prediction.predict import Output, predict
from engine.predictor import Predictor
from engine.testing.test import test as run_test
from engine.train.start import create_trainer
from tests.conftest import read_csv
from tests.processes import python
from utils.errors import UserError
from utils.run_files import TestFiles


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


@pytest.fixture
def images(folder) -> list[Path]:
    """Those of the phantoms among them."""
    return sorted(folder.glob("0*.png"))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def test_a_folder_gives_scores_maps_overlays_and_errors(trained, folder, out):
    assert predict(trained(), [folder], Output(out), recursive=True) == 1
    rows, errors = read_csv(out / "scores.csv"), read_csv(out / "errors.csv")
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


def test_scores_equal_those_of_the_test(trained, phantoms, out):
    run = run_test(trained())
    predict(trained(), [phantoms / "test" / "good" / "img"], Output(out))
    tested = {
        Path(sample.name).name: score
        for sample, score in zip(run.split.samples, run.scores, strict=True)
        if sample.label == 0
    }
    rows = read_csv(out / "scores.csv")
    predicted = {Path(row["path"]).name: float(row["score"]) for row in rows}
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
        predict(config, [source], Output(tmp_path / name))
        return [float(row["score"]) for row in read_csv(tmp_path / name / "scores.csv")]

    in_eight_with_calibration = scores("eight", copies)
    alone = scores("alone", source)
    command = ["run_predict.py", "--config", tmp_path / "tiny.ini", "--input", source]
    command += ["--output", tmp_path / "process", "--set", "BATCH_SIZE_TEST=8"]
    run = python(*command)
    assert run.returncode == 0, run.stderr
    elsewhere = [float(row["score"]) for row in read_csv(tmp_path / "process" / "scores.csv")]
    assert len(in_eight_with_calibration) == 8
    found = [*after_epoch, *in_eight_with_calibration, *alone, *elsewhere]
    assert found == pytest.approx([alone[0]] * 11, rel=1e-6)


def test_without_validation_images_there_is_no_verdict_and_no_overlay(
    uncalibrated, folder, images, out, tmp_path
):
    config = uncalibrated(f"VAL_DATA_PATH={tmp_path / 'none'}")
    predict(config, [folder], Output(out), recursive=False)
    rows = read_csv(out / "scores.csv")
    assert [row["path"] for row in rows] == list(map(str, images)), "no subfolders unless asked"
    assert {(row["predicted"], row["overlay"]) for row in rows} == {("", "")}
    assert all((out / row["map"]).is_file() for row in rows)
    assert not (out / "overlays").exists()


def test_results_of_a_test_are_not_replaced(trained, folder):
    config = trained()
    run_test(config)
    files = TestFiles(config.testing.results_path)
    with pytest.raises(UserError, match=r"test contains the results of a test"):
        predict(config, [folder], Output(files.folder))
    files.metrics.unlink()  # as where it was cut short
    with pytest.raises(UserError, match=r"test contains the results of a test"):
        predict(config, [folder], Output(files.folder, overwrite=True))
    assert files.scores.is_file()


def test_one_process_predicts_whatever_devices_says(trained, folder, out, monkeypatch):
    started = []
    monkeypatch.setattr("lightning_fabric.Fabric.launch", lambda fabric: started.append(fabric))
    predict(trained("DEVICES=2"), [folder], Output(out))
    assert started == []


def test_equal_scores_need_no_order_of_pictures(trained, folder, out, monkeypatch):
    def refuse(*_):
        raise UserError("disk full")

    monkeypatch.setattr("engine.prediction.results.write_atomically", refuse)
    monkeypatch.setattr(
        "engine.evaluate.scorer.image_scores", lambda maps, *_: maps[0, :, 0, 0, 0] * 0
    )
    assert predict(trained(), [folder], Output(out)) == 5


def test_results_inside_the_input_are_refused(trained, folder):
    with pytest.raises(UserError, match=r"^--output: .* is inside --input"):
        predict(trained(), [folder], Output(folder / "out"), recursive=True)
    with pytest.raises(UserError, match=r"^RESULTS_PATH: .* is inside --input"):
        predict(trained(f"TESTING.RESULTS_PATH={folder}"), [folder], Output(), recursive=True)
    # Without subfolders, results in one are no inputs.
    assert predict(trained(), [folder], Output(folder / "out")) == 1


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_predict(trained, tmp_path, out, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=name):
        predict(trained(), [tmp_path / name], Output(out))


def test_names_that_are_too_long_for_a_suffix(trained, images, tmp_path, out):
    long_names = [f"{'x' * 245}{index}.png" for index in range(2)]
    source = tmp_path / "long"
    source.mkdir()
    for name in long_names:
        shutil.copy(images[0], source / name)
    assert predict(trained(), [source], Output(out)) == 0
    rows = read_csv(out / "scores.csv")
    assert len({row["map"] for row in rows}) == 2


def test_results_of_another_prediction_are_refused_or_replaced(trained, folder, images, out):
    predict(trained(), [folder], Output(out))
    for name in ("notes.txt", "maps/checked.nii.gz"):
        (out / name).write_text("mine")
    first = images[0]
    with pytest.raises(UserError, match="contains the results of another prediction; replace them"):
        predict(trained(), [first], Output(out))
    predict(trained(), [first], Output(out, overwrite=True))
    assert [row["path"] for row in read_csv(out / "scores.csv")] == [str(first)]
    names = {path.name for path in (out / "maps").iterdir() if path.is_file()}
    assert names == {f"{first.name}.npy", "checked.nii.gz"}
    for name in ("notes.txt", "maps/checked.nii.gz"):
        assert (out / name).read_text() == "mine"


def test_maps_of_ones_own_are_no_results(trained, images, out):
    own = out / "maps" / "mine.nii.gz"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert predict(trained(), images[:1], Output(out)) == 0
    assert own.read_text() == "mine"


def test_several_inputs_maps_and_overlays_left_out_and_a_threshold_of_ones_own(
    trained, folder, tmp_path, out, monkeypatch
):
    monkeypatch.chdir(folder.parent)
    files = sorted(Path("inputs").glob("0*.png"))
    sources = [files[0], Path("inputs/sub"), files[1].absolute()]
    assert predict(trained(), sources, Output(out), threshold=-1) == 0
    rows = read_csv(out / "scores.csv")
    assert [row["predicted"] for row in rows] == ["1", "1", "1"]
    names = (files[0].name, "sub/wide.jpg", files[1].name)
    assert [row["map"] for row in rows] == [f"maps/{name}.npy" for name in names]
    report = (out / "report.html").read_text()
    assert "at a score of <strong>-1</strong> or above" in report
    assert report.count('data-group="anomalous"') == 3
    predict(trained(), sources, Output(tmp_path / "bare", maps=False, overlays=False))
    rows = read_csv(tmp_path / "bare" / "scores.csv")
    assert {(row["map"], row["overlay"]) for row in rows} == {("", "")}
    assert not {"maps", "overlays"} & {path.name for path in (tmp_path / "bare").iterdir()}


def test_one_image_is_told_on_the_screen(trained, images, out, capsys):
    assert predict(trained(), [images[0]], Output(out), threshold=-1) == 0
    (row,) = read_csv(out / "scores.csv")
    assert row["path"] == str(images[0])
    said = capsys.readouterr().out.splitlines()[-1]
    verdict = f"score {float(row['score']):.6g}: anomalous (threshold -1)"
    assert said == f"{verdict}; map: {out / row['map']}"


def test_the_one_image_that_cannot_be_read_is_told_on_the_screen(trained, folder, out, capsys):
    assert predict(trained(), [folder / "broken.png"], Output(out)) == 1
    first, said = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("0 images scored, 0 called anomalous")
    assert said.startswith(f"1 error ({folder / 'broken.png'}: cannot be ")
    assert said.endswith(f"; all files are in {out}")


def test_all_files_are_below_the_output_however_inputs_are_given(
    trained, images, tmp_path, out, monkeypatch
):
    (tmp_path / "here/deep").mkdir(parents=True)
    first, second, *_ = images
    shutil.copy(first, tmp_path / "here/deep/a.png")
    config = trained()
    monkeypatch.chdir(tmp_path / "here/deep")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    given = [Path("a.png"), Path("../../inputs", second.name), second]
    predict(config, given, Output(Path("../../out")))
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.relative_to(tmp_path).parts[0] for path in new} <= {"out", "results"}
    maps = [row["map"] for row in read_csv(out / "scores.csv")]
    assert maps == ["maps/here/deep/a.png.npy", f"maps/inputs/{second.name}.npy"]


def test_old_results_stay_until_there_are_new_ones(trained, images, tmp_path, out):
    predict(trained(), images[:1], Output(out))
    before = sorted(out.rglob("*"))
    with pytest.raises(UserError, match="no such file"):
        predict(trained(), [tmp_path / "typo.png"], Output(out, overwrite=True))
    config = trained(f"CHECKPOINT_PATH={tmp_path / 'none.pth'}")
    with pytest.raises(UserError, match="CHECKPOINT_PATH"):
        predict(config, images[:1], Output(out, overwrite=True))
    assert sorted(out.rglob("*")) == before


def test_a_path_that_is_missing_does_not_stop_the_others(trained, images, tmp_path, out):
    assert predict(trained(), [tmp_path / "typo.png", images[0]], Output(out)) == 1
    (row,) = read_csv(out / "errors.csv")
    assert row["error"] == f"{tmp_path}/typo.png: no such file or folder"
    assert len(read_csv(out / "scores.csv")) == 1


def test_scores_are_kept_where_maps_cannot_be_written(trained, images, out, monkeypatch):
    def full(path, write):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(results, "write_atomically", full)
    assert predict(trained(), images[:2], Output(out)) == 2
    rows, errors = (read_csv(out / name) for name in ("scores.csv", "errors.csv"))
    assert [(row["path"], row["map"]) for row in rows] == [(str(each), "") for each in images[:2]]
    assert all(float(row["score"]) > 0 for row in rows)
    assert all("No space left" in row["error"] for row in errors)


def test_an_output_that_cannot_be_written_is_told_before_the_first_score(
    trained, folder, out, monkeypatch
):
    def refuse(path, *_):
        raise UserError(f"{path}: cannot be written (Permission denied)")

    monkeypatch.setattr(results, "write_csv", refuse)
    monkeypatch.delattr(Predictor, "score_readable")
    with pytest.raises(UserError, match=r"errors\.csv: cannot be written"):
        predict(trained(), [folder], Output(out))
