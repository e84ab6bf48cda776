"""MIN_FOREGROUND: air above and below changes no metric, and what is marked in it is not found."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from datasets.folders.find import find_split
from datasets.foreground import without_background
from engine.evaluate.calibration_file import load_calibration
from engine.testing.test import test as run_test
from engine.train.start import create_trainer, train
from tests.conftest import read_csv, tiny_in
from tests.medical_files import write_nifti
from tests.volume_sets import AFFINE, SHAPE, write_volumes
from utils.errors import UserError

KEYS = ("INTENSITY_WINDOW=0,1000", "MIN_FOREGROUND=0.3")


def with_air(folder: Path, target: Path) -> Path:
    """The same volumes with a black slice at both ends."""
    for path in folder.rglob("*.nii.gz"):
        values = np.pad(np.asarray(nibabel.load(path).dataobj), ((0, 0), (0, 0), (1, 1)))
        write_nifti(target / path.relative_to(folder), values, AFFINE)
    return target


@pytest.fixture(scope="module")
def trained_so(tmp_path_factory, phantoms):
    """The results of a training with ``KEYS``."""
    return train(tiny_in(tmp_path_factory.mktemp("keys"), phantoms)("N_EPOCHS=1", *KEYS))


@pytest.fixture
def tested(tiny, tmp_path, trained_so):
    """Tests a tiny model on the volumes of a folder, with a calibration of its ``valid``."""
    write_volumes(tmp_path / "plain" / "valid", seed=1)
    write_volumes(tmp_path / "plain" / "test", seed=2)
    with_air(tmp_path / "plain", tmp_path / "air")
    shutil.copytree(trained_so, tmp_path / "results")

    def test_it(name, *overrides):
        paths = {"VAL_DATA_PATH": "valid", "TEST_DATA_PATH": "test"}
        folders = [f"{key}={tmp_path / name / part}" for key, part in paths.items()]
        return run_test(tiny(*KEYS, *folders, *overrides))

    return test_it


def volumes_of(run) -> list[dict[str, str]]:
    return read_csv(run.config.testing.results_path / "volumes.csv")


def test_air_changes_neither_metrics_nor_thresholds(tested):
    without = tested("plain")
    learnt = load_calibration(without.config.testing)
    found = tested("air")
    again = load_calibration(found.config.testing)
    assert len(found.split.background) == 12
    assert found.scores == without.scores
    for key, value in without.metrics.items():
        assert key == "calibration" or found.metrics[key] == value, key
    for key, value in without.metrics["calibration"].items():
        assert key == "val_data_path" or found.metrics["calibration"][key] == value, key
    for key in ("threshold", "pixel_threshold", "volume_threshold"):
        assert getattr(again, key) == getattr(learnt, key)
    assert again.is_of(find_split(Path(again.val_data_path), key="VAL_DATA_PATH"))
    assert {row["num_slices"] for row in volumes_of(found)} == {"6"}


def test_validation_in_training_leaves_air_out(tested, tiny, tmp_path):
    trainer = create_trainer(tiny(*KEYS, f"VAL_DATA_PATH={tmp_path / 'air' / 'valid'}"))
    assert len(trainer.validation.split.samples) == 36


def test_a_run_is_resumed_where_the_same_images_count(trained, tmp_path):
    # As of a run that was begun before the key was known.
    train(trained("N_EPOCHS=1", "MIN_FOREGROUND=0.3"), resume=True)
    write_volumes(tmp_path / "plain")
    folder = f"VAL_DATA_PATH={with_air(tmp_path / 'plain', tmp_path / 'air')}"
    train(trained("N_EPOCHS=1", folder, *KEYS), overwrite=True)
    with pytest.raises(UserError, match="VAL_IMAGES"):
        train(trained("N_EPOCHS=1", folder, KEYS[0]), resume=True)


def test_what_is_marked_in_air_is_missed(tested, tmp_path):
    plain = tested("air")
    changed = tmp_path / "air" / "test" / "Ungood" / "label" / "p1_3.nii.gz"
    mask = np.asarray(nibabel.load(changed).dataobj).copy()
    before, added = int(mask.sum()), 100
    mask[:10, :10, 0] = 1
    write_nifti(changed, mask, AFFINE)
    metrics = tested("air").metrics
    assert metrics["num_images"] == plain.metrics["num_images"]
    assert metrics["pixel_auroc"] == plain.metrics["pixel_auroc"]
    # Three volumes; that one found c of s + m pixels, and now of s + m + added.
    lost = 3 * (plain.metrics["volume_dice"] - metrics["volume_dice"])
    assert 0 < lost < 2 * added / before


def test_a_volume_that_is_marked_in_air_alone_is_anomalous(tested, tmp_path):
    label = tmp_path / "air" / "test" / "Ungood" / "label" / "p1_3.nii.gz"
    mask = np.zeros((20, 28, 8), np.uint8)
    mask[:5, :5, 0] = 1
    write_nifti(label, mask, AFFINE)
    labels = {Path(row["path"]).name: row["label"] for row in volumes_of(tested("air"))}
    assert labels["p1_3.nii.gz"] == "1"


def test_a_volume_and_a_patient_of_background_alone_count(tested, tmp_path, caplog):
    kinds = {"img": np.zeros(SHAPE, np.int16), "label": np.zeros(SHAPE, np.uint8)}
    kinds["label"][4:6, 4:6, 0] = 1
    for kind, values in kinds.items():
        write_nifti(tmp_path / "plain/test/Ungood" / kind / "p9_dark.nii.gz", values, AFFINE)
    run = tested("plain", r"PATIENT_PATTERN=^(p\d+)_")
    assert run.metrics["num_volumes"] == 7
    *_, dark = volumes_of(run)
    assert (Path(dark["path"]).name, dark["label"], dark["score"]) == ("p9_dark.nii.gz", "1", "0.0")
    assert (dark["predicted"], dark["num_slices"], dark["worst_slice"]) == ("", "0", "")
    assert "p9_dark.nii.gz: 1; volume metrics rank them last" in caplog.text
    # Never found: it ranks below all others, and nothing of it overlaps.
    assert run.metrics["volume_auroc"] <= 0.75
    assert run.metrics["patient_auroc"] <= 0.75
    assert dark["path"] in (run.config.testing.results_path / "report.html").read_text()


def test_where_no_slice_shows_enough_the_key_is_named(tested, tmp_path, tiny):
    split = find_split(tmp_path / "air" / "test", key="TEST_DATA_PATH")
    settings = tiny(*KEYS, "MIN_FOREGROUND=0.99").testing
    with pytest.raises(UserError, match=r"MIN_FOREGROUND = 0\.99: no image"):
        without_background(split, settings)


def test_pictures_always_count(phantoms, tiny):
    split = find_split(phantoms / "test", key="TEST_DATA_PATH")
    assert without_background(split, tiny("MIN_FOREGROUND=0.9").testing) is split
