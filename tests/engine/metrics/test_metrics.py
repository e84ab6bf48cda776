"""Every metric against scikit-learn or a slow, obvious twin, and what must not change it."""

import itertools
import logging
import pickle

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from engine.metrics.bins import ordered_keys
from engine.metrics.bootstrap import intervals, score_replicates
from engine.metrics.collectors import PixelMetrics
from engine.metrics.curves import (
    auroc,
    average_precision,
    best_f1,
    confusion,
    f1_max,
    image_metrics,
    region_weights,
    sensitivity_at_95_specificity,
)
from engine.metrics.histogram import ScoreHistogram

TRANSFORMS = {
    "0 to 1": lambda scores: 1 / (1 + np.exp(-scores)),
    "tied": lambda scores: np.round(scores, 1),
    "two values": lambda scores: (scores > 0).astype(float),
    "tiny": lambda scores: np.exp(scores) * 1e-30,
    "huge": lambda scores: scores * 1e30,
    "negative": lambda scores: scores - 10,
    "shifted": lambda scores: 0.9 + 1e-5 * scores,
    "all octaves": lambda scores: np.exp(20 * np.clip(scores, -4, 4)) * np.sign(scores),
}


def make_scores(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(11)
    labels = generator.random(count) < 0.2
    scores = TRANSFORMS[kind](generator.normal(size=count) + 1.5 * labels)
    return labels, scores.astype(np.float32)


def slow_metrics(labels, scores) -> dict[str, float]:
    scores = scores.astype(np.float64)
    precision, recall, thresholds = sk.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auroc": sk.roc_auc_score(labels, scores),
        "ap": sk.average_precision_score(labels, scores),
        "f1_max": f1.max(),
        "f1_threshold": np.float32(thresholds[np.flatnonzero(f1 == f1.max()).max()]),
        "sensitivity_at_95_specificity": tpr[1 - fpr >= 0.95 - 1e-12].max(),
    }


def slow_aupro(maps, masks, limit=0.3) -> float:
    regions = []
    for score_map, mask in zip(maps, masks, strict=True):
        labelled, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [score_map[labelled == region] for region in range(1, count + 1)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((float(np.mean(normal >= threshold)), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < limit < x1:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def make_maps(count=6, size=20, seed=0, levels=None):
    generator = np.random.default_rng(seed)
    noise = scipy.ndimage.gaussian_filter(generator.normal(size=(count, size, size)), (0, 1.5, 1.5))
    masks = noise > np.quantile(noise, 0.9)
    masks[0] = False
    maps = noise * 0.5 + 0.3 * generator.normal(size=noise.shape) * noise.std()
    if levels:
        maps = np.round(maps / maps.std() * levels) / levels
    return maps.astype(np.float32), masks


def pixel_metrics(maps, masks) -> dict[str, float | None]:
    pixel = PixelMetrics()
    for index in range(len(maps)):
        pixel.update(maps[[index]], masks[[index]], [index])
    assert pixel.replicates() == {}
    return pixel.compute()


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_image_metrics_equal_scikit_learn(kind):
    labels, scores = make_scores(kind, 3000)
    expected = {f"image_{name}": value for name, value in slow_metrics(labels, scores).items()}
    assert image_metrics(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_metrics_of_binned_scores_are_close_to_scikit_learn(kind):
    labels, scores = make_scores(kind, 400_000)
    expected = slow_metrics(labels, scores)
    histogram = ScoreHistogram(exact_limit=1 << 17)
    for part in np.array_split(np.arange(len(labels)), 5):
        histogram.update(ordered_keys(scores[part]), labels[part])
    curve = histogram.curve()
    assert auroc(curve) == pytest.approx(expected["auroc"], abs=1e-8)
    assert average_precision(curve) == pytest.approx(expected["ap"], abs=2e-6)
    # The best of all thresholds lies inside a bin: off by less than the bin's few elements.
    assert f1_max(curve) == pytest.approx(expected["f1_max"], abs=2e-5)
    sensitivity = expected["sensitivity_at_95_specificity"]
    assert sensitivity_at_95_specificity(curve) == pytest.approx(sensitivity, abs=2e-5)
    best, threshold = best_f1(curve)
    assert sk.f1_score(labels, scores >= threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, -3.0, 40.0])
@pytest.mark.parametrize("levels", [None, 1, 3])
def test_pixel_metrics_equal_their_slow_twins_inside_and_outside_0_to_1(offset, levels):
    maps, masks = make_maps(seed=4, levels=levels)
    maps = maps + np.float32(offset)
    expected = slow_metrics(masks.ravel(), maps.ravel())
    expected |= {"dice_max": expected["f1_max"], "aupro": slow_aupro(maps, masks)}
    expected = {f"pixel_{name}": value for name, value in expected.items()}
    assert pixel_metrics(maps, masks) == pytest.approx(expected, abs=1e-12)


def test_aupro_ignores_the_size_of_regions():
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, 1:3, 1:3] = mask[0, 5:18, 5:18] = True
    perfect = mask.astype(np.float32)
    assert pixel_metrics(perfect, mask)["pixel_aupro"] == pytest.approx(1.0, abs=1e-12)
    half = perfect.copy()
    half[0, 1:3, 1:3] = 0  # one of two regions is found at once, the other with all the rest
    expected = (0.5 + 0.5 + 0.5 * 0.3) / 2
    assert pixel_metrics(half, mask)["pixel_aupro"] == pytest.approx(expected, abs=1e-12)


def test_regions_touch_by_corners():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_allclose(region_weights(mask), [0.5, 0.5, 1.0])
    assert region_weights(np.zeros((3, 3), bool)).shape == (0,)


@given(st.data(), st.sampled_from(["affine", "cube", "steps"]))
def test_a_monotone_transform_leaves_metrics_alone(data, transform):
    count = data.draw(st.integers(2, 40))
    levels = data.draw(hnp.arrays(np.int64, count, elements=st.integers(-20, 20)))
    labels = data.draw(hnp.arrays(np.bool_, count))
    scores = levels / 8
    moved = {"affine": 1000 * scores - 7, "cube": scores**3 * 1e-6, "steps": np.exp(scores)}
    one, two = image_metrics(labels, scores), image_metrics(labels, moved[transform])
    del one["image_f1_threshold"], two["image_f1_threshold"]
    assert one == two
    if len(set(labels)) == 2:
        assert one["image_auroc"] == pytest.approx(sk.roc_auc_score(labels, scores))
        expected = sk.average_precision_score(labels, scores)
        assert one["image_ap"] == pytest.approx(expected)


@given(st.permutations(range(60)))
def test_a_permutation_leaves_image_metrics_alone(order):
    labels, scores = make_scores("tied", 60)
    assert image_metrics(labels[order], scores[order]) == image_metrics(labels, scores)


@given(hnp.arrays(np.bool_, 12), hnp.arrays(np.int64, 12, elements=st.integers(-9, 9)))
def test_swapping_the_classes_and_the_sign_leaves_auroc(labels, scores):
    swapped = image_metrics(~labels, -scores)
    assert image_metrics(labels, scores)["image_auroc"] == swapped["image_auroc"]


@settings(max_examples=15)
@given(st.permutations(range(6)), st.integers(0, 6))
def test_pixel_metrics_do_not_depend_on_order_or_split(order, cut):
    maps, masks = make_maps(seed=9)
    groups = ["p0", "p1", "p1", "p2", "p3", "p3"]

    def seen(*batches) -> PixelMetrics:
        pixel = PixelMetrics(groups, seed=3, replicates=20)
        for batch in batches:
            pixel.update(maps[batch], masks[batch], batch)
        return pickle.loads(pickle.dumps(pixel))

    whole, merged = seen(list(range(6))), seen(*([index] for index in order[:cut]))
    merged.merge(seen(order[cut:]) if order[cut:] else seen())
    assert merged.compute() == pytest.approx(whole.compute(), abs=1e-12)
    of_merged = intervals(merged.replicates())
    for name, interval in intervals(whole.replicates()).items():
        assert of_merged[name] == pytest.approx(interval, abs=1e-12)


def test_specificity_of_exactly_19_in_20_counts():
    def sensitivity(labels, scores):
        return image_metrics(labels, scores)["image_sensitivity_at_95_specificity"]

    labels, scores = [0] * 20 + [1] * 2, [*range(20), 18.5, 19.5]
    assert sensitivity(labels, scores) == 1.0
    assert sensitivity(labels, [*range(20), 17.5, 19.5]) == 0.5
    assert sensitivity(labels, [1] * 22) == 0.0


@pytest.mark.parametrize(("label", "missing"), [(0, "anomalous"), (1, "normal")])
def test_a_missing_class_gives_none_and_a_warning(label, missing, caplog):
    pixel = PixelMetrics(["a", "b"], replicates=5)
    maps = np.random.default_rng(0).random((2, 8, 8), dtype=np.float32)
    pixel.update(maps, np.full(maps.shape, bool(label)), [0, 1])
    with caplog.at_level(logging.WARNING):
        found = [image_metrics([label] * 3, [0.1, 0.2, 0.3]), pixel.compute()]
    draws = score_replicates([label] * 3, [0.1, 0.2, 0.3], list("abc")) | pixel.replicates()
    assert all(set(each.values()) == {None} for each in (*found, intervals(draws)))
    assert f"no {missing} image" in caplog.text
    assert f"no {missing} pixel" in caplog.text


def test_no_pixels_at_all_give_none_without_a_word(caplog):
    assert set(PixelMetrics().compute().values()) == {None}
    assert caplog.text == ""


def test_image_metrics_use_the_scores_own_precision():
    labels, scores = [0, 1, 0, 1], [1.0, 1.0 + 1e-12, 2.0, 2.0 + 1e-12]
    assert image_metrics(labels, scores)["image_auroc"] == sk.roc_auc_score(labels, scores) == 0.75


def test_confusion_equals_scikit_learn():
    labels, scores = make_scores("tied", 500)
    best = image_metrics(labels, scores)
    threshold = best["image_f1_threshold"]
    predicted = scores >= threshold
    tn, fp, fn, tp = sk.confusion_matrix(labels, predicted).ravel()
    expected = {
        **{"tp": tp, "fp": fp, "tn": tn, "fn": fn},
        "sensitivity": sk.recall_score(labels, predicted),
        "specificity": sk.recall_score(~labels, ~predicted),
        "precision": sk.precision_score(labels, predicted),
        "f1": best["image_f1_max"],
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
    }
    assert confusion(labels, scores, threshold) == pytest.approx(expected)


def test_confusion_without_a_class_leaves_its_rates_out():
    found = confusion([0, 0], [0.1, 0.2], 0.5)
    assert (found["tn"], found["specificity"], found["accuracy"]) == (2, 1.0, 1.0)
    names = ("sensitivity", "precision", "f1", "balanced_accuracy")
    assert [found[name] for name in names] == [None] * 4
