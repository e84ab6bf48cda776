"""Bootstrap intervals: coverage, groups, order, and replicates against repeating the images."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from engine.metrics.bins import ordered_keys
from engine.metrics.bootstrap import (
    PixelBootstrap,
    difference_intervals,
    intervals,
    mean_interval,
    poisson_weights,
    score_replicates,
)
from engine.metrics.collectors import PixelMetrics
from engine.metrics.curves import region_weights


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


def bootstrap_of(maps, masks, groups, *, seed=0, replicates=200) -> PixelBootstrap:
    bootstrap = PixelBootstrap(seed, replicates)
    bootstrap.update(ordered_keys(maps), masks, [region_weights(mask) for mask in masks], groups)
    return bootstrap


def test_intervals_cover_the_true_auroc_about_95_times_in_100():
    true_auroc = 0.7602499  # P(N(1, 1) > N(0, 1))
    hits = 0
    for trial in range(120):
        labels, scores, names = make_images(80, seed=trial)
        draws = score_replicates(labels, scores, names, seed=trial, replicates=200)
        low, high = intervals(draws)["image_auroc"]
        hits += low <= true_auroc <= high
    assert 104 <= hits <= 119


def test_image_intervals_name_their_metrics_and_follow_seed_not_order():
    labels, scores, names = make_images()
    first = intervals(score_replicates(labels, scores, names, seed=7, replicates=100))
    assert list(first) == ["image_auroc", "image_ap", "image_f1_max"]
    assert all(0 <= low < high <= 1 for low, high in first.values())
    order = np.random.default_rng(0).permutation(40)
    moved = intervals(
        score_replicates(
            labels[order], scores[order], [names[i] for i in order], seed=7, replicates=100
        )
    )
    for name in first:
        assert moved[name] == pytest.approx(first[name], abs=1e-12)
    assert intervals(score_replicates(labels, scores, names, seed=8, replicates=100)) != first


def test_images_of_one_patient_are_drawn_together():
    labels, scores, names = make_images()
    twice = [np.tile(array, 2) for array in (labels, scores)]
    single = intervals(score_replicates(labels, scores, names, seed=3, replicates=300))
    grouped = intervals(score_replicates(*twice, names * 2, seed=3, replicates=300))
    assert grouped["image_auroc"] == pytest.approx(single["image_auroc"], abs=1e-12)
    apart = intervals(score_replicates(*twice, [f"{i}" for i in range(80)], seed=3, replicates=300))
    widths = [high - low for low, high in (single["image_auroc"], apart["image_auroc"])]
    assert widths[1] < 0.85 * widths[0]


def test_replicates_without_a_class_are_left_out():
    draws = score_replicates([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], list("abcd"), replicates=50)
    assert intervals(draws)["image_auroc"] == [1.0, 1.0]


def test_one_group_alone_has_no_interval():
    draws = score_replicates([0, 0, 1, 1], [0.1, 0.8, 0.3, 0.9], ["a"] * 4, replicates=50)
    maps, masks, _ = make_maps()
    pixel = PixelMetrics(["a"] * len(maps), replicates=50)
    pixel.update(maps, masks, range(len(maps)))
    found = intervals(draws | pixel.replicates())
    assert set(found.values()) == {None}
    assert {"image_auroc", "pixel_auroc"} < found.keys()
    assert mean_interval([0.1, 0.9], ["a", "a"]) is None


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
    found = bootstrap_of(maps, masks, names, seed=2, replicates=6).replicates()
    bounds = intervals(found)
    assert list(bounds) == ["pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro"]
    times = np.stack([poisson_weights(name, 2, 6) for name in names]).astype(int)
    values = []
    for replicate in range(6):
        chosen = np.repeat(np.arange(len(maps)), times[:, replicate])
        pixel = PixelMetrics()
        pixel.update(maps[chosen], masks[chosen], chosen)
        found = pixel.compute()
        values.append([found[name] for name in bounds])
    expected = np.percentile(values, [2.5, 97.5], axis=0).T
    assert list(bounds.values()) == pytest.approx(expected, abs=1e-12)
    assert all(low < high for low, high in bounds.values())


@pytest.mark.parametrize(
    ("scale", "offset"), [(1, 0), (1e-30, 0), (1e30, 0), (1e-4, 0.9), (1, -50)]
)
def test_coarse_bins_are_fine_enough_for_intervals(scale, offset):
    maps, masks, names = make_maps(size=32)
    # Differences that float32 would lose to the offset are lost beforehand on both sides.
    moved = (maps.astype(np.float64) * scale + offset).astype(np.float32)
    levels = np.unique(moved, return_inverse=True)[1].reshape(maps.shape)
    ranks = (levels // 8 + 1).astype(np.float32)  # about a thousand ties: bins of their own
    exact, coarse = (
        intervals(bootstrap_of(each, masks, names).replicates()) for each in (ranks, moved)
    )
    assert coarse["pixel_auroc"] == pytest.approx(exact["pixel_auroc"], abs=2e-3)


def test_more_images_than_are_held_at_once_and_merged_parts_equal_the_whole():
    maps, masks, names = make_maps(count=150, size=12)
    maps[5] *= 1e6  # pages that only one of the parts sees
    options = {"seed": 4, "replicates": 20}
    whole = intervals(bootstrap_of(maps, masks, names, **options).replicates())
    merged = PixelBootstrap(**options)
    for image in range(150):
        one = slice(image, image + 1)
        merged.merge(bootstrap_of(maps[one], masks[one], names[one], **options))
    for name, interval in intervals(merged.replicates()).items():
        assert interval == pytest.approx(whole[name], abs=1e-12)


def test_slices_of_one_patient_share_their_weight():
    maps, masks, names = make_maps()
    low, high = intervals(bootstrap_of(maps, masks, ["p"] * 8, replicates=40).replicates())[
        "pixel_auroc"
    ]
    # Whole copies of the set: every replicate that has the patient gives the same value.
    assert low == pytest.approx(high, abs=1e-12)
    low, high = intervals(bootstrap_of(maps, masks, names, replicates=40).replicates())[
        "pixel_auroc"
    ]
    assert high - low > 0.01


def test_pixel_interval_holds_the_metric_and_memory_is_flat():
    maps, masks, names = make_maps(count=30)
    pixel = PixelMetrics(names, replicates=200)
    pixel.update(maps, masks, range(30))
    metrics = pixel.compute()
    for name, (low, high) in intervals(pixel.replicates()).items():
        assert low < metrics[name] < high
    wild = np.ldexp(np.ones((1, 16, 16)), np.arange(-128, 128).reshape(1, 16, 16) % 127)
    bootstrap = bootstrap_of(wild * 1e-10, masks[:1], ["wild"])
    bootstrap.merge(bootstrap_of(-wild, masks[:1], ["other"]))
    assert bootstrap._bins.counts.nbytes <= 3 * 200 * 4096 * 8


def test_the_interval_of_a_mean_is_that_of_resampled_means():
    values = np.random.default_rng(0).uniform(size=30)
    interval = mean_interval(values, [f"v{i}" for i in range(30)], seed=1, replicates=2000)
    generator = np.random.default_rng(99)
    means = [values[generator.integers(30, size=30)].mean() for _ in range(2000)]
    assert interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)
    assert mean_interval([], []) is None


def test_values_of_one_patient_are_drawn_together():
    values, patients = [0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"]
    # Of two patients, each replicate holds one twice or both: its mean is 0, 0.5 or 1.
    assert mean_interval(values, patients, replicates=200) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("level", "names"), [("volume", ["volume_auroc", "volume_ap"]), ("patient", ["patient_auroc"])]
)
def test_intervals_of_volumes_and_patients(level, names):
    labels, scores, groups = make_images()
    of_images = intervals(score_replicates(labels, scores, groups, seed=1, replicates=100))
    found = intervals(score_replicates(labels, scores, groups, level=level, seed=1, replicates=100))
    assert list(found) == names
    for name in names:
        assert found[name] == of_images[name.replace(level, "image")]
    assert intervals(score_replicates([], [], [], level=level)) == dict.fromkeys(names)


def f1_max(labels, scores):
    return max(f1_score(labels, scores >= each) for each in np.unique(scores))


def test_intervals_and_those_of_differences_are_those_of_a_slow_bootstrap():
    labels, one, groups = make_images(count=24)
    other = one + np.random.default_rng(5).normal(size=24)
    patients = [f"p{number // 2}" for number in range(24)]
    metrics = {
        "image_auroc": roc_auc_score,
        "image_ap": average_precision_score,
        "image_f1_max": f1_max,
    }
    for names in (groups, patients):
        each = [score_replicates(labels, s, names, seed=3, replicates=20) for s in (one, other)]
        members = [np.flatnonzero(np.equal(names, name)) for name in np.unique(names)]
        generator, values = np.random.default_rng(3), []
        for _ in range(20):
            drawn = generator.integers(len(members), size=len(members))
            images = np.concatenate([members[group] for group in drawn])
            values.append(
                [[m(labels[images], s[images]) for m in metrics.values()] for s in (one, other)]
            )
        of_one, of_other = np.swapaxes(values, 0, 1)  # (replicates, metrics)
        for found, expected in (
            (intervals(each[0]), of_one),
            (difference_intervals(*each), of_one - of_other),
        ):
            bounds = np.percentile(expected, [2.5, 97.5], axis=0).T
            assert [found[name] for name in metrics] == pytest.approx(bounds, abs=1e-12)


def test_the_interval_of_a_difference_of_pixels_is_that_of_repeated_images():
    maps, masks, names = make_maps()
    others = maps + np.random.default_rng(4).normal(size=maps.shape).astype(np.float32)
    # Few different scores, so that bins lose nothing.
    maps, others = (np.round(each * 4).astype(np.float32) for each in (maps, others))
    found = [
        bootstrap_of(each, masks, names, seed=2, replicates=12).replicates()
        for each in (maps, others)
    ]
    weights = np.stack([poisson_weights(name, 2, 12) for name in names], axis=1).astype(int)
    differences = []
    for draw in weights:
        marks = np.repeat(masks, draw, axis=0).ravel()
        values = [
            average_precision_score(marks, np.repeat(m, draw, axis=0).ravel())
            for m in (maps, others)
        ]
        differences.append(values[0] - values[1])
    interval = difference_intervals(*found)["pixel_ap"]
    assert interval == pytest.approx(np.percentile(differences, [2.5, 97.5]), abs=1e-9)


def test_without_replicates_there_is_no_difference():
    lacking = score_replicates([0, 0], [0.1, 0.2], ["a", "b"])
    assert difference_intervals(lacking, lacking) == dict.fromkeys(lacking)
