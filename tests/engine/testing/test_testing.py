"""Testing: nothing dropped, metrics of the whole set, threshold from validation only."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.evaluate.calibrate import calibrate_trained
from engine.evaluate.calibration_file import load_calibration
from engine.snapshot import check_snapshot
from engine.testing.test import test as run_test
from engine.train.start import train
from tests.conftest import read_csv
from tests.engine.conftest import calibrated, path_of_calibration, scored
from utils.checkpoints import save_tensors
from utils.errors import ConfigError, UserError
from utils.run_files import TrainingFiles
from utils.weights import read_tensors


def test_every_image_is_scored_whatever_the_batch_size(uncalibrated, tmp_path):
    tables = []
    for size in (1, 3, 5, 64):
        folder = tmp_path / f"batch{size}"
        run_test(uncalibrated(f"BATCH_SIZE_TEST={size}", f"TESTING.RESULTS_PATH={folder}"))
        tables.append(read_csv(folder / "scores.csv"))
    assert [len(table) for table in tables] == [7] * 4
    assert list(tables[0][0])[:3] == ["path", "label", "score"]
    for table in tables[1:]:
        assert [row["path"] for row in table] == [row["path"] for row in tables[0]]
        scores = ([float(row["score"]) for row in each] for each in (table, tables[0]))
        np.testing.assert_allclose(*scores, rtol=1e-5)


def test_figures_equal_scikit_learn_over_the_whole_set(uncalibrated):
    run = run_test(uncalibrated())
    folder = run.config.testing.results_path
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = read_csv(folder / "scores.csv")
    labels, scores = ([float(row[key]) for row in rows] for key in ("label", "score"))
    assert metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["image_ap"] == pytest.approx(average_precision_score(labels, scores))
    maps, masks = (each.ravel() for each in scored(run.config, run.split)[:2])
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-6)
    assert metrics["pixel_ap"] == pytest.approx(average_precision_score(masks, maps), abs=1e-6)
    assert (metrics["num_images"], metrics["num_normal"], metrics["num_anomalous"]) == (7, 4, 3)
    for name in ("roc.png", "histogram.png", "cases.png", "config.ini"):
        assert (folder / name).stat().st_size > 0


def test_an_image_is_decoded_once_for_its_score_and_once_for_all_pictures(uncalibrated, decoded):
    config = uncalibrated("REPORT_IMAGES=5")
    run_test(config)
    decoded.clear()
    run = run_test(config)  # the threshold is there
    names = sorted(sample.path.name for sample in run.split.samples)
    assert sorted(decoded) == sorted(2 * names)


def test_the_threshold_comes_from_validation_and_is_kept_beside_the_checkpoint(uncalibrated):
    config = uncalibrated()
    run = run_test(config)
    stored = load_calibration(config.testing)
    assert stored is not None
    assert run.threshold == stored.threshold
    assert stored.val_data_path == str(config.training.val_data_path)
    for row in read_csv(config.testing.results_path / "scores.csv"):
        assert row["predicted"] == str(int(float(row["score"]) >= stored.threshold))
    confusion = run.metrics["confusion"]
    assert sum(confusion[name] for name in ("tp", "fp", "tn", "fn")) == 7


def test_a_training_learns_its_threshold_where_it_ran(uncalibrated):
    config = uncalibrated("TESTING.DEVICE=cuda:99")
    calibrate_trained(config)
    assert load_calibration(config.testing) is not None


def test_what_a_test_lacks_is_no_error_of_the_training(uncalibrated, caplog):
    calibrate_trained(uncalibrated("TESTING.MODEL_WEIGHTS=gone.pth"))
    assert "no threshold has been learnt yet: " in caplog.text
    assert "gone.pth" in caplog.text


def test_no_threshold_is_learnt_on_the_test_set(uncalibrated, caplog):
    config = uncalibrated()
    shared = config.testing.test_data_path
    run = run_test(uncalibrated(f"VAL_DATA_PATH={shared}"))
    assert run.threshold is None
    assert run.metrics["confusion"] is None
    rows = read_csv(config.testing.results_path / "scores.csv")
    assert {row["predicted"] for row in rows} == {""}
    assert "VAL_DATA_PATH is the test set itself" in caplog.text


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("gone", "gone is not a folder"), ("lesions", "lesions has no normal images")],
)
def test_report_and_screen_say_why_there_is_no_threshold(
    uncalibrated, phantoms, tmp_path, caplog, folder, reason
):
    shutil.copytree(phantoms / "valid" / "Ungood", tmp_path / "lesions" / "Ungood")
    run = run_test(uncalibrated(f"VAL_DATA_PATH={tmp_path / folder}"))
    report = (run.config.testing.results_path / "report.html").read_text()
    assert reason in caplog.text
    assert reason in report


def test_each_scoring_of_a_checkpoint_has_its_calibration(uncalibrated):
    config, other = uncalibrated(), uncalibrated("IMAGE_REDUCTION=max")
    thresholds = [calibrated(each).threshold for each in (config, other)]
    assert thresholds[0] != thresholds[1]
    assert [load_calibration(each.testing).threshold for each in (config, other)] == thresholds
    first, second = (path_of_calibration(each.testing) for each in (config, other))
    assert first.name == "last_ckpt.calibration.json"
    assert second.name.startswith("last_ckpt.calibration.")
    TrainingFiles(config.training.results_path).remove_run()
    assert not first.exists()
    assert not second.exists()


def test_a_training_that_is_not_finished_is_told(trained, tmp_path, caplog):
    config = trained()
    run_test(config)
    files = TrainingFiles(config.training.results_path)
    files.config.write_text(files.config.read_text().replace("N_EPOCHS = 1", "N_EPOCHS = 6"))
    table = files.table.rename(tmp_path / "elsewhere.csv")
    run_test(config)
    assert "is not finished" not in caplog.text
    table.rename(files.table)
    run_test(config)
    assert "last_ckpt.pth is from epoch 1 of 6: the training is not finished" in caplog.text
    with pytest.raises(UserError, match=r"CHECKPOINT_PATH: .* is a folder; set it to a file in it"):
        run_test(trained(f"CHECKPOINT_PATH={config.training.results_path}"))


def test_a_stale_calibration_is_not_used(uncalibrated):
    config = uncalibrated()
    calibrated(config)
    path, checkpoint = path_of_calibration(config.testing), config.testing.checkpoint_path
    before = path.read_text()
    weights = {name: 1.5 * tensor for name, tensor in read_tensors(checkpoint).items()}
    save_tensors(checkpoint, weights)
    calibrated(config)
    assert path_of_calibration(config.testing) == path
    assert path.read_text() != before


def test_a_calibration_of_other_images_is_not_used(uncalibrated, tmp_path):
    config = uncalibrated()
    calibrated(uncalibrated(f"VAL_DATA_PATH={config.testing.test_data_path}"))
    assert calibrated(config).threshold is not None
    stored = load_calibration(config.testing)
    assert (stored.num_normal, stored.num_anomalous) == (3, 3)
    calibrated(uncalibrated("MAX_SAMPLES_VAL=4"))
    stored = load_calibration(config.testing)
    assert stored.num_normal + stored.num_anomalous == 4
    # Where those images are not at hand, what they taught still counts.
    again = calibrated(uncalibrated(f"VAL_DATA_PATH={tmp_path / 'none'}"))
    assert again.threshold == stored.threshold


def test_a_checkpoint_in_a_folder_that_may_not_be_written(uncalibrated, monkeypatch, caplog):
    def refuse(*_):
        raise UserError("calibration.json: cannot be written")

    monkeypatch.setattr("engine.evaluate.calibration_file.write_text", refuse)
    assert run_test(uncalibrated()).threshold is not None
    assert "cannot be written; the threshold will be learnt again next time" in caplog.text


def test_normal_validation_images_alone_give_a_quantile(uncalibrated, tmp_path, phantoms):
    shutil.copytree(phantoms / "valid" / "good", tmp_path / "normals" / "good")
    run = run_test(uncalibrated(f"VAL_DATA_PATH={tmp_path / 'normals'}", "THRESHOLD_QUANTILE=0.5"))
    assert run.metrics["calibration"]["method"] == "0.5 quantile"
    assert run.metrics["calibration"]["num_anomalous"] == 0
    stored = load_calibration(run.config.testing)
    assert stored.pixel_method == "0.999 quantile of normal pixels"
    # The default quantile is that of the upper end of the colour scale.
    assert stored.pixel_threshold == stored.colours.high


def copy_test_set(phantoms: Path, folder: Path, *, without: str) -> Path:
    shutil.copytree(phantoms / "test", folder)
    shutil.rmtree(folder / without)
    return folder


def test_a_set_without_masks_is_scored_per_image(uncalibrated, tmp_path, phantoms):
    folder = copy_test_set(phantoms, tmp_path / "maskless", without="Ungood/label")
    metrics = run_test(uncalibrated(f"TEST_DATA_PATH={folder}")).metrics
    assert metrics["image_auroc"] is not None
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro"):
        assert metrics[name] is None


@pytest.mark.parametrize("missing", ["good", "Ungood"])
def test_one_class_alone_gives_null_and_no_crash(uncalibrated, tmp_path, phantoms, missing):
    folder = copy_test_set(phantoms, tmp_path / "one", without=missing)
    metrics = run_test(uncalibrated(f"TEST_DATA_PATH={folder}")).metrics
    assert metrics["image_auroc"] is None
    assert json.loads((Path(uncalibrated().testing.results_path) / "metrics.json").read_text())


def test_cut_sets_say_how_much_was_left_out(uncalibrated, caplog):
    run = run_test(uncalibrated("MAX_SAMPLES_TEST=5"))
    assert run.metrics["num_images"] == 5
    assert run.metrics["num_left_out"] == 2
    assert "leaves out 2 images" in caplog.text


def test_a_score_that_is_not_finite_names_the_image(uncalibrated, tmp_path):
    config = uncalibrated()
    checkpoint = torch.load(config.testing.checkpoint_path, weights_only=True)
    checkpoint["decoder.decoder_prediction.weight"].fill_(1e38)
    torch.save(checkpoint, tmp_path / "wild.pth")
    with pytest.raises(UserError, match=r"\.png: its anomaly score is not finite"):
        run_test(uncalibrated(f"CHECKPOINT_PATH={tmp_path / 'wild.pth'}"))


def test_a_missing_checkpoint_says_what_to_do(tiny):
    with pytest.raises(UserError, match=r"CHECKPOINT_PATH.*train first"):
        run_test(tiny())


@pytest.mark.parametrize(
    ("override", "was"),
    [
        ("USE_HIDDEN_STATE=-2, -3", "-2, -4"),
        ("INTENSITY_WINDOW=0,99", "auto"),
        ("DECODER_NUM_HEADS=4", "2"),  # no shape tells
    ],
)
def test_a_config_that_computes_something_else_is_refused(uncalibrated, override, was):
    key, value = override.split("=")
    with pytest.raises(UserError, match=rf"{key}: found '{value}'.*trained with '{was}'"):
        run_test(uncalibrated(f"TESTING.{override}"))


@pytest.mark.parametrize(
    ("was", "found", "message"),
    [
        ("a.pth", "b.pth", "error"),
        ("a.pth", "copies/a.pth", ""),
        ("a.pth", "copies/b.pth", ""),
        ("gone/a.pth", "a.pth", ""),
        ("gone/a.pth", "b.pth", "warning"),
        ("hub", "a.pth", "warning"),
    ],
)
def test_weights_other_than_those_that_were_trained_with(
    trained, tmp_path, monkeypatch, caplog, was, found, message
):
    monkeypatch.chdir(tmp_path)
    for name, content in (("a", "1"), ("b", "2"), ("copies/a", "1"), ("copies/b", "1")):
        path = tmp_path / f"{name}.pth"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    files = TrainingFiles(trained().training.results_path)
    stored = files.config.read_text()
    files.config.write_text(stored.replace("MODEL_WEIGHTS = random", f"MODEL_WEIGHTS = {was}"))
    config = trained(f"MODEL_WEIGHTS={found}").testing
    told = f"MODEL_WEIGHTS: found '{found}'; {files.last} was trained with '{was}'"
    refused = pytest.raises(ConfigError) if message == "error" else nullcontext()
    with refused as error:
        check_snapshot(config, files.last, file="tiny.ini", section="TESTING")
    assert (told in caplog.text) == (message == "warning")
    assert (told in str(error and error.value)) == (message == "error")


@pytest.mark.parametrize("value", [0, 90])
def test_black_and_constant_images_give_finite_figures(tiny, tmp_path, phantoms, value):
    """From training to report; all scores are equal, so that no image stands out."""
    shutil.copytree(phantoms, tmp_path / "constant")
    for image in (tmp_path / "constant").rglob("*.png"):
        if image.parent.name != "label":
            Image.new("L", (32, 32), value).save(image)
    paths = {"TRAIN_DATA_PATH": "train", "VAL_DATA_PATH": "valid", "TEST_DATA_PATH": "test"}
    overrides = [f"{key}={tmp_path / 'constant' / name}" for key, name in paths.items()]
    train(tiny("N_EPOCHS=1", *overrides))
    # Batches of one: in others, scores of equal images may differ in their last digits.
    metrics = run_test(tiny(*overrides, "BATCH_SIZE_TEST=1")).metrics
    assert metrics["image_auroc"] == 0.5
    assert all(0 <= metrics[name] <= 1 for name in ("pixel_auroc", "pixel_ap", "pixel_aupro"))
