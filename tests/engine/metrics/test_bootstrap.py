"""Bootstrap intervals: coverage, groups, order, and replicates against repeating the images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from engine.metrics.bins import ordered_keys
from engine.metrics.bootstrap import (
    PixelBootstrap,
    group_intervals,
    percentile_interval,
    poisson_weights,
)
from engine.metrics.curves import (
    PixelMetrics,
    aupro,
    auroc,
    average_precision,
    f1_max,
    image_intervals,
    region_weights,
)
from utils.patients import patient_of

PIXEL = {"auroc": auroc, "ap": average_precision, "f1": f1_max, "aupro": aupro}


def make_images(count=40, seed=0):
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(int)
    return labels, generator.normal(size=count) + labels, [f"image{i}" for i in range(count)]


def make_maps(count=8, size=16, seed=0):
    generator = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), dtype=bool)
    for mask in masks[1:]:
        row, column = generator.integers(0, size - 5, 2)
        mask[row : row + 4, column : column + 4] = True
        mask[0, generator.integers(size)] = True
    maps = generator.normal(size=masks.shape) + masks * generator.uniform(0, 3, (count, 1, 1))
    return maps.astype(np.float32), masks, [f"image{i}" for i in range(count)]


def bootstrap_of(maps, masks, groups, **options) -> PixelBootstrap:
    bootstrap = PixelBootstrap(**options)
    bootstrap.update(ordered_keys(maps), masks, [region_weights(mask) for mask in masks], groups)
    return bootstrap


def test_intervals_cover_the_true_auroc_about_95_times_in_100():
    true_auroc = 0.7602499  # P(N(1, 1) > N(0, 1))
    hits = 0
    for trial in range(120):
        labels, scores, names = make_images(80, seed=trial)
        intervals = image_intervals(labels, scores, names, seed=trial, replicates=200)
        low, high = intervals["image_auroc"]
        hits += low <= true_auroc <= high
    assert 104 <= hits <= 119


def test_intervals_are_percentiles_of_resampled_scikit_learn_values():
    labels, scores, names = make_images()
    low, high = image_intervals(labels, scores, names, seed=1, replicates=500)["image_auroc"]
    generator = np.random.default_rng(99)
    draws = (generator.integers(40, size=40) for _ in range(500))
    values = [roc_auc_score(labels[draw], scores[draw]) for draw in draws]
    assert [low, high] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.03)


def test_image_intervals_name_their_metrics_and_follow_seed_not_order():
    labels, scores, names = make_images()
    first = image_intervals(labels, scores, names, seed=7, replicates=100)
    assert list(first) == ["image_auroc", "image_ap", "image_f1_max"]
    assert all(0 <= low < high <= 1 for low, high in first.values())
    order = np.random.default_rng(0).permutation(40)
    moved = image_intervals(
        labels[order], scores[order], [names[i] for i in order], seed=7, replicates=100
    )
    for name in first:
        assert moved[name] == pytest.approx(first[name], abs=1e-12)
    assert image_intervals(labels, scores, names, seed=8, replicates=100) != first


def test_images_of_one_patient_are_drawn_together():
    labels, scores, names = make_images()
    twice = [np.tile(array, 2) for array in (labels, scores)]
    single = image_intervals(labels, scores, names, seed=3, replicates=300)
    grouped = image_intervals(*twice, names * 2, seed=3, replicates=300)
    assert grouped["image_auroc"] == pytest.approx(single["image_auroc"], abs=1e-12)
    apart = image_intervals(*twice, [f"{i}" for i in range(80)], seed=3, replicates=300)
    widths = [high - low for low, high in (single["image_auroc"], apart["image_auroc"])]
    assert widths[1] < 0.85 * widths[0]


def test_replicates_without_a_class_are_left_out():
    intervals = image_intervals([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], list("abcd"), replicates=50)
    assert intervals["image_auroc"] == [1.0, 1.0]
    one_group = image_intervals([0, 1], [0.1, 0.9], ["a", "a"], replicates=5)
    assert one_group["image_auroc"] == [1.0, 1.0]
    assert percentile_interval([None, 0.5, None]) == [0.5, 0.5]
    assert percentile_interval([None]) is None
    assert group_intervals([], [], [], {"auroc": auroc}) == {"auroc": None}


def test_groups_must_match_the_images():
    with pytest.raises(ValueError, match="1 groups for 2 scores"):
        image_intervals([0, 1], [0.1, 0.2], ["a"])


def test_poisson_weights_follow_seed_and_name():
    weights = poisson_weights("patient1", 5, 20_000)
    np.testing.assert_array_equal(weights, poisson_weights("patient1", 5, 20_000))
    assert weights.mean() == pytest.approx(1, abs=0.04)
    assert weights.var() == pytest.approx(1, abs=0.06)
    for other in (poisson_weights("patient2", 5, 20_000), poisson_weights("patient1", 6, 20_000)):
        assert abs(np.corrcoef(weights, other)[0, 1]) < 0.03


def test_pixel_replicates_equal_repeating_the_images():
    maps, masks, names = make_maps()
    maps = np.round(maps * 4) / 4  # few levels, so that coarse bins hold one each
    replicates = 6
    bootstrap = bootstrap_of(maps, masks, names, seed=2, replicates=replicates)
    times = np.stack([poisson_weights(name, 2, replicates) for name in names]).astype(int)
    values = {name: [] for name in PIXEL}
    for replicate in range(replicates):
        chosen = np.repeat(np.arange(len(maps)), times[:, replicate])
        pixel = PixelMetrics(replicates=0)
        pixel.update(maps[chosen], masks[chosen], ["any"] * len(chosen))
        found = pixel.compute()
        for name, key in zip(PIXEL, ("auroc", "ap", "f1_max", "aupro"), strict=True):
            values[name].append(found[f"pixel_{key}"])
    for name, interval in bootstrap.intervals(PIXEL).items():
        assert interval == pytest.approx(percentile_interval(values[name]), abs=1e-12)
        assert interval[0] < interval[1]


@pytest.mark.parametrize(
    ("scale", "offset"), [(1, 0), (1e-30, 0), (1e30, 0), (1e-4, 0.9), (1, -50)]
)
def test_coarse_bins_are_fine_enough_for_intervals(scale, offset):
    maps, masks, names = make_maps(size=32)
    # Differences that float32 would lose to the offset are lost beforehand on both sides.
    moved = (maps.astype(np.float64) * scale + offset).astype(np.float32)
    levels = np.unique(moved, return_inverse=True)[1].reshape(maps.shape)
    ranks = (levels // 8 + 1).astype(np.float32)  # about a thousand ties: bins of their own
    exact = bootstrap_of(ranks, masks, names).intervals({"auroc": auroc})["auroc"]
    coarse = bootstrap_of(moved, masks, names).intervals({"auroc": auroc})["auroc"]
    assert coarse == pytest.approx(exact, abs=2e-3)


def test_pixel_bootstrap_merged_equals_whole_in_any_order():
    maps, masks, names = make_maps()
    maps[5] *= 1e6  # pages that only one of the parts sees
    options = {"seed": 4, "replicates": 30}
    whole = bootstrap_of(maps, masks, names, **options).intervals(PIXEL)
    merged = PixelBootstrap(**options)
    for part in ([6, 1], [5], [0, 7, 2], [4, 3]):
        few = [names[image] for image in part]
        merged.merge(bootstrap_of(maps[part], masks[part], few, **options))
    merged.merge(PixelBootstrap(**options))
    for name, interval in merged.intervals(PIXEL).items():
        assert interval == pytest.approx(whole[name], abs=1e-12)


def test_more_images_than_are_held_at_once():
    maps, masks, _ = make_maps(count=150, size=8)
    names = [f"image{i}" for i in range(150)]
    options = {"seed": 4, "replicates": 10}
    at_once = bootstrap_of(maps, masks, names, **options).intervals(PIXEL)
    singly = PixelBootstrap(**options)
    for i in range(150):
        part = slice(i, i + 1)
        singly.merge(bootstrap_of(maps[part], masks[part], names[part], **options))
    for name, interval in singly.intervals(PIXEL).items():
        assert interval == pytest.approx(at_once[name], abs=1e-12)


def test_slices_of_one_patient_share_their_weight():
    maps, masks, _ = make_maps()
    one_patient = bootstrap_of(maps, masks, ["p"] * 8, replicates=40).intervals(PIXEL)
    many = bootstrap_of(maps, masks, [f"{i}" for i in range(8)], replicates=40).intervals(PIXEL)
    # Whole copies of the set: every replicate that has the patient gives the same value.
    assert one_patient["auroc"][0] == pytest.approx(one_patient["auroc"][1], abs=1e-12)
    assert many["auroc"][1] - many["auroc"][0] > 0.01


def test_pixel_interval_holds_the_metric_and_memory_is_flat():
    maps, masks, names = make_maps(count=30)
    pixel = PixelMetrics()
    pixel.update(maps, masks, names)
    metrics, intervals = pixel.compute(), pixel.intervals()
    assert list(intervals) == ["pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro"]
    for name, (low, high) in intervals.items():
        assert low < metrics[name] < high
    wild = np.ldexp(np.ones((1, 16, 16)), np.arange(-128, 128).reshape(1, 16, 16) % 127)
    bootstrap = bootstrap_of(wild * 1e-10, masks[:1], ["wild"])
    bootstrap.merge(bootstrap_of(-wild, masks[:1], ["other"]))
    assert bootstrap._bins.counts.nbytes <= 3 * 200 * 4096 * 8


def test_different_bootstraps_cannot_be_merged():
    with pytest.raises(ValueError, match="cannot be merged"):
        PixelBootstrap(seed=1).merge(PixelBootstrap(seed=2))
    one, two = PixelMetrics(replicates=0), PixelMetrics(replicates=0)
    one.merge(two)
    assert set(one.compute().values()) == {None}


@pytest.mark.parametrize(
    ("pattern", "patient"),
    [(r"BraTS2021_(\d+)", "00012"), (r"BraTS\d+_\d+", "BraTS2021_00012"), (r"(x)?flair", None)],
)
def test_patient_of_takes_the_group_or_the_match(pattern, patient):
    stem = "BraTS2021_00012_flair_61"
    if patient:
        assert patient_of(stem, pattern) == patient
    else:
        with pytest.raises(ValueError, match="BraTS2021_00012_flair_61"):
            patient_of(stem, pattern)


def test_patient_of_names_the_file_and_the_pattern():
    with pytest.raises(ValueError, match=r"slice7.*'patient_'"):
        patient_of("slice7", "patient_")
