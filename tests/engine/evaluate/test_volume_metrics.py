"""Testing of volumes: metrics, tables and intervals, against written-out twins on the files."""

import itertools
import json
import re
import shutil
from collections import defaultdict
from functools import cache
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from datasets.dataset import AnomalyDataset
from engine.evaluate.calibration_file import load_calibration
from engine.evaluate.scorer import create_scorer
from engine.testing.summary import summary
from engine.testing.test import test as run_test
from tests.conftest import read_csv, tiny_in
from tests.medical_files import write_dicom
from tests.volume_sets import SHAPE, write_volumes
from utils.run_files import TestFiles

KEYS = ("volume_auroc", "volume_ap", "volume_dice")
BY_PATIENT = "PATIENT_PATTERN=^(p\\d+)_"


@pytest.fixture(scope="module")
def tested(tmp_path_factory, phantoms, run_of_one_epoch):
    """Tests a tiny model on volumes, with a calibration of others; the same keys, the same run."""
    folder = tmp_path_factory.mktemp("volumes")
    tiny = tiny_in(folder, phantoms)
    shutil.copytree(run_of_one_epoch, folder / "results")
    paths = [
        f"VAL_DATA_PATH={write_volumes(folder / 'valid', seed=1)}",
        f"TEST_DATA_PATH={write_volumes(folder / 'test', seed=2)}",
    ]
    results = (folder / f"test{number}" for number in itertools.count())

    @cache
    def test_it(*overrides):
        return run_test(tiny(*paths, f"TESTING.RESULTS_PATH={next(results)}", *overrides))

    return test_it


def rows_of(run, name: str) -> list[dict[str, str]]:
    return read_csv(run.config.testing.results_path / name)


def slices_of(run) -> dict[str, list[tuple[int, float]]]:
    """File → label and score of each slice, from scores.csv."""
    slices = defaultdict(list)
    for row in rows_of(run, "scores.csv"):
        slices[row["path"].partition("#")[0]].append((int(row["label"]), float(row["score"])))
    return slices


@pytest.mark.parametrize(("reduction", "of_slices"), [("max", np.max), ("mean", np.mean)])
def test_volumes_are_ranked_by_their_scores(tested, reduction, of_slices):
    run = tested(f"VOLUME_REDUCTION={reduction}")
    metrics, slices = run.metrics, slices_of(run)
    labels = [max(label for label, _ in each) for each in slices.values()]
    scores = [of_slices([score for _, score in each]) for each in slices.values()]
    assert metrics["num_volumes"] == 6
    assert labels == [1, 1, 1, 0, 0, 0]
    assert metrics["volume_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["volume_ap"] == pytest.approx(average_precision_score(labels, scores))
    assert metrics["interval_unit_volumes"] == metrics["interval_unit"] == "volume"
    assert metrics["num_groups"] == 6
    for name in KEYS:
        low, high = metrics["intervals_95"][name]
        assert 0 <= low <= metrics[name] <= high <= 1
    assert metrics["patient_auroc"] is None


def test_a_table_of_volumes(tested):
    run = tested()
    calibration = load_calibration(run.config.testing)
    rows, slices = rows_of(run, "volumes.csv"), slices_of(run)
    assert list(rows[0]) == [
        *("path", "label", "score", "predicted", "num_slices", "num_anomalous", "worst_slice")
    ]
    assert [row["path"] for row in rows] == list(slices)
    assert calibration.volume_threshold is not None
    for row in rows:
        scores = [score for _, score in slices[row["path"]]]
        assert float(row["score"]) == max(scores)
        assert row["predicted"] == str(int(max(scores) >= calibration.volume_threshold))
        assert row["num_slices"] == "6"
        assert row["num_anomalous"] == str(sum(each >= calibration.threshold for each in scores))
        assert row["worst_slice"] == str(int(np.argmax(scores)))


def test_without_a_volume_threshold_the_worst_slice_decides(tested, tmp_path):
    folder = write_volumes(tmp_path / "normal", anomalous=0, seed=5)
    run = tested(f"VAL_DATA_PATH={folder}", "VOLUME_REDUCTION=mean")
    assert run.metrics["volume_threshold"] is None
    for row in rows_of(run, "volumes.csv"):
        scores = [score for _, score in slices_of(run)[row["path"]]]
        assert row["predicted"] == str(int(max(scores) >= run.threshold))


def test_dice_of_volumes_on_their_own_grid(tested):
    """The twin lays each map into the volume as it is stored, and compares all voxels at once."""
    run = tested()
    settings = run.config.testing
    dataset = AnomalyDataset.of(run.split, settings)
    scorer = create_scorer(settings, file=run.config.file)
    found = defaultdict(lambda: np.zeros(SHAPE))
    for index, sample in enumerate(run.split.samples):
        scored = scorer.score(dataset[index]["image"][None], ["x"])
        size = SHAPE[:2]  # (width, height)
        own = cv2.resize(scored.anomaly_maps[0].numpy(), size, interpolation=cv2.INTER_LINEAR)
        # Rows go from front to back, columns from right to left; slices are stored downwards.
        found[sample.path][:, :, SHAPE[2] - 1 - sample.frame] = own[::-1, ::-1].T
    values = []
    for path in sorted(path for path in found if path.parent.name == "img"):
        mask = nibabel.load(path.parents[1] / "label" / path.name).get_fdata() > 0
        above = found[path] >= run.pixel_threshold
        values.append(2 * (above & mask).sum() / (above.sum() + mask.sum()))
    assert min(values) > 0
    assert run.metrics["volume_dice"] == pytest.approx(np.mean(values), abs=2e-3)


def test_intervals_of_volumes_are_drawn_by_patient(tested):
    by_volume, by_patient = tested(), tested(BY_PATIENT)
    assert by_patient.metrics["interval_unit_volumes"] == "patient"
    assert by_patient.metrics["volume_auroc"] == by_volume.metrics["volume_auroc"]
    slices = slices_of(by_patient)
    patients = defaultdict(list)
    for path, each in slices.items():
        patients[Path(path).name[:2]] += each
    labels = [max(label for label, _ in each) for each in patients.values()]
    scores = [max(score for _, score in each) for each in patients.values()]
    assert by_patient.metrics["patient_auroc"] == pytest.approx(roc_auc_score(labels, scores))


def test_sets_of_pictures_have_no_metrics_of_volumes(tested, phantoms):
    run = tested(f"TEST_DATA_PATH={phantoms / 'test'}")
    stored = json.loads((run.config.testing.results_path / "metrics.json").read_text())
    for name in (*KEYS, "patient_auroc"):
        assert stored[name] is None
        assert stored["intervals_95"][name] is None
    assert not (run.config.testing.results_path / "volumes.csv").exists()
    assert "Volume" not in (run.config.testing.results_path / "report.html").read_text()


def test_the_table_of_another_test_does_not_stay(tested, phantoms, tmp_path):
    results, table = f"TESTING.RESULTS_PATH={tmp_path}", tmp_path / "volumes.csv"
    tested(results)
    assert table.exists()
    tested(results, f"TEST_DATA_PATH={phantoms / 'test'}")
    assert not table.exists()


def test_report_and_screen_show_the_metrics_of_volumes(tested):
    run = tested(BY_PATIENT)
    files = TestFiles(run.config.testing.results_path)
    page, shown = files.report.read_text(), summary(run.metrics, files)
    for name, title in (
        *(("volume_auroc", "Volume AUROC"), ("volume_ap", "Volume average precision")),
        *(("volume_dice", "Volume Dice"), ("patient_auroc", "Patient AUROC")),
    ):
        assert title in page
        assert f"{run.metrics[name]:.4f}" in shown
    for title in ("AUROC of volumes", "AP of volumes", "AUROC of patients", str(files.volumes)):
        assert title in shown
    assert "Those of volumes come from resampling patients." in page


def test_the_report_shows_volumes_with_their_masks(tested):
    run = tested()
    page = TestFiles(run.config.testing.results_path).report.read_text()
    rows = {row["path"]: row for row in rows_of(run, "volumes.csv")}
    shown = re.findall(r'aria-label="Volume ([^"]*)"', page)
    assert shown == sorted(rows, key=lambda path: -float(rows[path]["score"]))
    slices = slices_of(run)
    for position, path in enumerate(shown):
        texts = re.findall(f'id="slice-{position}-\\d" .* data-text="([^"]*)"', page)
        scores = [score for _, score in slices[path]]
        assert texts == [f"slice {i}, score {score:.4g}" for i, score in enumerate(scores)]
        (first,) = re.findall(f'href="#slice-{position}-(\\d)-contour"', page)
        assert first == rows[path]["worst_slice"]
        contours = re.findall(
            f'id="slice-{position}-\\d-contour"[^>]*>(.*?)</g>\n</g>', page, re.DOTALL
        )
        assert ['class="mask"' in each for each in contours] == [bool(m) for m, _ in slices[path]]


def test_patients_are_told_by_dicom_and_never_written(tested, tmp_path):
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 255, (32, 32)).astype(np.uint8)
        kind = "Ungood" if number > 2 else "good"
        path = tmp_path / "dicom" / kind / f"{number}.dcm"
        write_dicom(path, pixels, PatientID=f"SECRET{number // 2}")
    run = tested(f"TEST_DATA_PATH={tmp_path / 'dicom'}")
    scores = np.array(run.scores).reshape(2, 3)[::-1].ravel()  # Ungood comes first
    patients = scores.reshape(3, 2).max(axis=1)
    assert run.metrics["patient_auroc"] == pytest.approx(roc_auc_score([0, 1, 1], patients))
    assert run.metrics["interval_unit"] == "image"
    for file in run.config.testing.results_path.rglob("*"):
        assert not file.is_file() or b"SECRET" not in file.read_bytes()
