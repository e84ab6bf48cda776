"""The thresholds of pixels and volumes: from validation, against written-out twins."""

import json
import shutil

import numpy as np
import pytest

from tests.engine.conftest import calibrated, path_of_calibration, scored
from tests.volume_sets import write_volumes


def dice(found: np.ndarray, marked: np.ndarray) -> float:
    return 2 * (found & marked).sum() / (found.sum() + marked.sum())


def test_the_pixel_threshold_has_the_best_dice_on_validation_masks(uncalibrated):
    config = uncalibrated()
    calibration = calibrated(config)
    maps, masks, *_ = scored(config)
    best = max(dice(maps >= each, masks) for each in np.unique(maps))
    # Scored one by one, the last digits of maps may differ from those of a batch.
    threshold = calibration.pixel_threshold - 1e-6
    assert dice(maps >= threshold, masks) == pytest.approx(best, abs=2e-3)
    assert calibration.pixel_method == "best Dice"
    assert calibration.volume_threshold is None, "these are pictures"


def test_without_masks_the_pixel_threshold_is_a_quantile_of_normal_pixels(
    uncalibrated, tmp_path, phantoms
):
    shutil.copytree(phantoms / "valid", tmp_path / "maskless")
    shutil.rmtree(tmp_path / "maskless" / "Ungood" / "label")
    config = uncalibrated(f"VAL_DATA_PATH={tmp_path / 'maskless'}", "PIXEL_QUANTILE=0.9")
    calibration = calibrated(config)
    maps, _, labels, _ = scored(config)
    expected = np.quantile(maps[labels == 0], 0.9)
    assert calibration.pixel_threshold == pytest.approx(expected, rel=1e-3)
    assert calibration.pixel_method == "0.9 quantile of normal pixels"


@pytest.mark.parametrize("reduction", ["max", "mean", "top_k_mean"])
def test_the_volume_threshold_has_the_best_f1_of_validation_volumes(
    uncalibrated, tmp_path, reduction
):
    folder = write_volumes(tmp_path / "volumes")
    config = uncalibrated(f"VAL_DATA_PATH={folder}", f"VOLUME_REDUCTION={reduction}")
    calibration = calibrated(config)
    *_, labels, scores = scored(config)
    slices = scores.reshape(6, 6)
    volumes = {
        "max": slices.max(axis=1),
        "mean": slices.mean(axis=1),
        "top_k_mean": np.sort(slices, axis=1)[:, 1:].mean(axis=1),
    }[reduction]
    anomalous = labels.reshape(6, 6).any(axis=1)
    assert anomalous.tolist() == [True] * 3 + [False] * 3
    best = max(dice(volumes >= each, anomalous) for each in volumes)
    highest = max(each for each in volumes if dice(volumes >= each, anomalous) == best)
    assert calibration.volume_threshold == pytest.approx(highest, rel=1e-5)


def test_a_calibration_of_before_is_made_anew(uncalibrated):
    config = uncalibrated()
    new = calibrated(config)
    path = path_of_calibration(config.testing)
    old = json.loads(path.read_text())
    for name in ("pixel_threshold", "pixel_method", "volume_threshold", "histogram"):
        del old[name]
    path.write_text(json.dumps(old | {"fingerprint": "of before these keys"}))
    assert calibrated(config) == new
    assert json.loads(path.read_text())["pixel_threshold"] == new.pixel_threshold


def test_the_histogram_counts_the_scores_of_both_classes(trained):
    config = trained()
    histogram = calibrated(config).histogram
    *_, labels, scores = scored(config)
    assert histogram["low"] == pytest.approx(min(scores), rel=1e-5)
    assert histogram["high"] == pytest.approx(max(scores), rel=1e-5)
    width = (histogram["high"] - histogram["low"]) / len(histogram["normal"])
    for label, counts in enumerate((histogram["normal"], histogram["anomalous"])):
        bins = [[] for _ in counts]
        for score in scores[labels == label]:
            bins[min(int((score - histogram["low"]) / width), len(bins) - 1)].append(score)
        # Scored one by one, a score may differ in its last digits and lie in the next bin.
        moved = np.abs(np.cumsum([len(each) for each in bins]) - np.cumsum(counts))
        assert moved.max() <= 1
        assert sum(counts) == (labels == label).sum()
