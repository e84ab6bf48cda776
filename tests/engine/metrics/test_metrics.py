"""Every metric against scikit-learn or a slow, obvious twin."""

from __future__ import annotations

import copy
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

from engine.metrics.curves import (
    PixelMetrics,
    aupro,
    auroc,
    average_precision,
    best_f1,
    confusion,
    f1_max,
    image_intervals,
    image_metrics,
    region_weights,
    sensitivity_at_specificity,
)
from engine.metrics.histogram import ScoreHistogram, SortedScores


def make_scores(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(11)
    labels = generator.random(count) < 0.2
    scores = generator.normal(size=count) + 1.5 * labels
    scores = {
        "random": 1 / (1 + np.exp(-scores)),
        "tied": np.round(scores, 1),
        "two values": (scores > 0).astype(float),
        "tiny": np.exp(scores) * 1e-30,
        "huge": scores * 1e30,
        "negative": scores - 10,
        "shifted": 0.9 + 1e-5 * scores,
        "all octaves": np.exp(20 * np.clip(scores, -4, 4)) * np.sign(scores),
    }[kind]
    return labels, scores.astype(np.float32)


KINDS = ["random", "tied", "two values", "tiny", "huge", "negative", "shifted", "all octaves"]


def slow_metrics(labels, scores) -> dict[str, float]:
    scores = scores.astype(np.float64)
    precision, recall, thresholds = sk.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    return {
        "auroc": sk.roc_auc_score(labels, scores),
        "ap": sk.average_precision_score(labels, scores),
        "f1": f1.max(),
        "threshold": thresholds[np.flatnonzero(f1 == f1.max()).max()],
        "sensitivity": tpr[1 - fpr >= 0.95 - 1e-12].max(),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_small_sets_equal_scikit_learn(kind):
    labels, scores = make_scores(kind, 3000)
    expected = slow_metrics(labels, scores)
    histogram = ScoreHistogram()
    histogram.update(scores, labels)
    for curve in (histogram.curve(), SortedScores(labels, scores).curve()):
        assert auroc(curve) == pytest.approx(expected["auroc"], abs=1e-12)
        assert average_precision(curve) == pytest.approx(expected["ap"], abs=1e-12)
        assert best_f1(curve)[0] == f1_max(curve) == pytest.approx(expected["f1"], abs=1e-12)
        assert best_f1(curve)[1] == np.float32(expected["threshold"])
        assert sensitivity_at_specificity(curve) == pytest.approx(expected["sensitivity"])


@pytest.mark.parametrize("kind", KINDS)
def test_folded_sets_are_close_to_scikit_learn(kind):
    labels, scores = make_scores(kind, 400_000)
    expected = slow_metrics(labels, scores)
    histogram = ScoreHistogram(exact_limit=1 << 17)
    for part in np.array_split(np.arange(len(labels)), 5):
        histogram.update(scores[part], labels[part])
    curve = histogram.curve()
    assert auroc(curve) == pytest.approx(expected["auroc"], abs=1e-8)
    assert average_precision(curve) == pytest.approx(expected["ap"], abs=2e-6)
    # The best of all thresholds lies inside a bin: off by less than the bin's few elements.
    assert f1_max(curve) == pytest.approx(expected["f1"], abs=2e-5)
    assert sensitivity_at_specificity(curve) == pytest.approx(expected["sensitivity"], abs=2e-5)
    threshold = best_f1(curve)[1]
    assert sk.f1_score(labels, scores >= threshold) == pytest.approx(f1_max(curve), abs=1e-12)


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


def make_maps(count=4, size=24, seed=0, levels=None):
    generator = np.random.default_rng(seed)
    noise = scipy.ndimage.gaussian_filter(generator.normal(size=(count, size, size)), (0, 1.5, 1.5))
    masks = noise > np.quantile(noise, 0.9)
    masks[0] = False
    maps = noise * 0.5 + 0.3 * generator.normal(size=noise.shape) * noise.std()
    if levels:
        maps = np.round(maps / maps.std() * levels) / levels
    return maps.astype(np.float32), masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [None, 1, 3])
def test_aupro_equals_its_slow_twin(limit, levels):
    maps, masks = make_maps(levels=levels)
    histogram = ScoreHistogram()
    histogram.update(maps, masks, np.concatenate([region_weights(mask) for mask in masks]))
    assert aupro(histogram.curve(), limit) == pytest.approx(
        slow_aupro(maps, masks, limit), abs=1e-9
    )
    pixel = PixelMetrics(replicates=0)
    pixel.update(maps, masks, list("abcd"))
    assert pixel.compute()["pixel_aupro"] == pytest.approx(slow_aupro(maps, masks), abs=1e-9)


def test_aupro_of_a_perfect_map_is_one_and_ignores_region_size():
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, 1:3, 1:3] = mask[0, 5:18, 5:18] = True
    pixel = PixelMetrics(replicates=0)
    pixel.update(mask.astype(np.float32), mask, ["a"])
    assert pixel.compute()["pixel_aupro"] == pytest.approx(1.0, abs=1e-12)
    half = np.zeros((1, 20, 20), dtype=np.float32)
    half[0, 5:18, 5:18] = 1  # one of two regions found at once, the other with all the rest
    pixel = PixelMetrics(replicates=0)
    pixel.update(half, mask, ["a"])
    expected = (0.5 + 0.5 + 0.5 * 0.3) / 2
    assert pixel.compute()["pixel_aupro"] == pytest.approx(expected, abs=1e-12)


def test_regions_touch_by_corners():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    np.testing.assert_allclose(region_weights(mask), [0.5, 0.5, 1.0])
    assert region_weights(np.zeros((3, 3), bool)).shape == (0,)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_aupro_refuses_other_limits(limit):
    with pytest.raises(ValueError, match="fpr_limit"):
        aupro(ScoreHistogram().curve(), limit)


@given(st.data(), st.sampled_from(["affine", "cube", "steps"]))
def test_a_monotone_transform_leaves_ranks_alone(data, transform):
    count = data.draw(st.integers(2, 40))
    levels = data.draw(hnp.arrays(np.int64, count, elements=st.integers(-20, 20)))
    labels = data.draw(hnp.arrays(np.bool_, count))
    scores = levels / 8
    moved = {"affine": 1000 * scores - 7, "cube": scores**3 * 1e-6, "steps": np.exp(scores)}
    one, two = SortedScores(labels, scores).curve(), SortedScores(labels, moved[transform]).curve()
    for metric in (auroc, average_precision, f1_max, sensitivity_at_specificity):
        assert metric(one) == metric(two)
    if one.has_both_classes:
        assert auroc(one) == pytest.approx(sk.roc_auc_score(labels, scores))
        assert average_precision(one) == pytest.approx(sk.average_precision_score(labels, scores))


@given(st.integers(0, 2**32 - 1))
def test_a_permutation_changes_nothing(seed):
    labels, scores = make_scores("tied", 200)
    order = np.random.default_rng(seed).permutation(200)
    assert image_metrics(labels[order], scores[order]) == image_metrics(labels, scores)


@given(hnp.arrays(np.bool_, 12), hnp.arrays(np.int64, 12, elements=st.integers(-9, 9)))
def test_swapping_the_classes_and_the_sign_leaves_auroc(labels, scores):
    straight, swapped = SortedScores(labels, scores), SortedScores(~labels, -scores)
    assert auroc(straight.curve()) == auroc(swapped.curve())


def test_specificity_of_exactly_19_in_20_counts():
    labels = [0] * 20 + [1] * 2
    scores = [*range(20), 18.5, 19.5]
    assert image_metrics(labels, scores)["image_sensitivity_at_95_specificity"] == 1.0
    assert sensitivity_at_specificity(SortedScores(labels, scores).curve(), 0.96) == 0.5
    all_tied = SortedScores(labels, [1.0] * 22).curve()
    assert sensitivity_at_specificity(all_tied) == 0.0


@pytest.mark.parametrize(("label", "missing"), [(0, "no anomalous image"), (1, "no normal image")])
def test_a_missing_class_gives_none_and_a_warning(label, missing, caplog):
    with caplog.at_level(logging.WARNING):
        result = image_metrics([label] * 3, [0.1, 0.2, 0.3])
    assert set(result.values()) == {None}
    assert missing in caplog.text
    assert set(image_intervals([label] * 3, [0.1, 0.2, 0.3], list("abc")).values()) == {None}


@pytest.mark.parametrize("fill", [False, True])
def test_a_missing_pixel_class_gives_none_and_a_warning(fill, caplog):
    pixel = PixelMetrics(replicates=5)
    pixel.update(np.random.default_rng(0).random((2, 8, 8)), np.full((2, 8, 8), fill), ["a", "b"])
    with caplog.at_level(logging.WARNING):
        assert set(pixel.compute().values()) == {None}
    assert f"no {'normal' if fill else 'anomalous'} pixel" in caplog.text
    assert set(pixel.intervals().values()) == {None}


def test_image_metrics_use_the_scores_own_precision():
    labels, scores = [0, 1, 0, 1], [1.0, 1.0 + 1e-12, 2.0, 2.0 + 1e-12]
    assert image_metrics(labels, scores)["image_auroc"] == sk.roc_auc_score(labels, scores) == 0.75
    with pytest.raises(ValueError, match="not finite"):
        image_metrics([0, 1], [0.0, float("nan")])


@pytest.mark.parametrize("offset", [0.0, -3.0, 40.0])
def test_pixel_metrics_equal_scikit_learn_inside_and_outside_0_to_1(offset):
    maps, masks = make_maps(count=6, size=20, seed=4)
    maps = maps + np.float32(offset)
    pixel = PixelMetrics(replicates=0)
    for image in range(6):
        pixel.update(maps[image : image + 1], masks[image : image + 1], [str(image)])
    expected, found = slow_metrics(masks.ravel(), maps.ravel()), pixel.compute()
    assert found["pixel_auroc"] == pytest.approx(expected["auroc"], abs=1e-12)
    assert found["pixel_ap"] == pytest.approx(expected["ap"], abs=1e-12)
    assert found["pixel_f1_max"] == found["pixel_dice_max"]
    assert found["pixel_f1_max"] == pytest.approx(expected["f1"], abs=1e-12)
    assert found["pixel_f1_threshold"] == np.float32(expected["threshold"])
    name = "pixel_sensitivity_at_95_specificity"
    assert found[name] == pytest.approx(expected["sensitivity"], abs=1e-12)
    assert found["pixel_aupro"] == pytest.approx(slow_aupro(maps, masks), abs=1e-9)
    assert set(pixel.intervals().values()) == {None}


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 6))
def test_pixel_metrics_do_not_depend_on_order_or_split(order, cut):
    maps, masks = make_maps(count=6, seed=9)
    names = np.array(["p0", "p1", "p1", "p2", "p3", "p3"])
    whole = PixelMetrics(seed=3, replicates=20)
    whole.update(maps, masks, names.tolist())
    parts = []
    for part in (order[:cut], order[cut:]):
        one = PixelMetrics(seed=3, replicates=20)
        one.update(maps[part], masks[part], names[part].tolist())
        parts.append(pickle.loads(pickle.dumps(one)))
    merged = copy.deepcopy(parts[0])
    merged.merge(parts[1])
    assert merged.compute() == pytest.approx(whole.compute(), abs=1e-12)
    for name, interval in whole.intervals().items():
        assert merged.intervals()[name] == pytest.approx(interval, abs=1e-12)


def test_pixel_metrics_name_wrong_arguments():
    maps, masks = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool)
    pixel = PixelMetrics(replicates=2)
    with pytest.raises(ValueError, match=r"\(B, H, W\)"):
        pixel.update(maps, masks[:1], ["a", "b"])
    with pytest.raises(ValueError, match="1 groups for 2 maps"):
        pixel.update(maps, masks, ["a"])
    with pytest.raises(TypeError, match="booleans"):
        pixel.update(maps, masks.astype(np.uint8) * 255, ["a", "b"])
    with pytest.raises(ValueError, match="not finite"):
        pixel.update(np.full_like(maps, np.nan), masks, ["a", "b"])
    pixel.update(maps[:0], masks[:0], [])
    assert set(pixel.compute().values()) == {None}


def test_confusion_equals_scikit_learn():
    labels, scores = make_scores("tied", 500)
    found = confusion(labels, scores, 1.0)
    predicted = scores >= 1.0
    tn, fp, fn, tp = sk.confusion_matrix(labels, predicted).ravel()
    assert (found["tn"], found["fp"], found["fn"], found["tp"]) == (tn, fp, fn, tp)
    assert found["sensitivity"] == pytest.approx(sk.recall_score(labels, predicted))
    assert found["specificity"] == pytest.approx(sk.recall_score(~labels, ~predicted))
    assert found["precision"] == pytest.approx(sk.precision_score(labels, predicted))
    assert found["f1"] == pytest.approx(sk.f1_score(labels, predicted))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    balanced = sk.balanced_accuracy_score(labels, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced)


def test_confusion_at_the_best_threshold_gives_the_best_f1():
    labels, scores = make_scores("tied", 500)
    best = image_metrics(labels, scores)
    found = confusion(labels, scores, best["image_f1_threshold"])
    assert found["f1"] == pytest.approx(best["image_f1_max"])


def test_confusion_without_a_class_leaves_its_rates_out():
    found = confusion([0, 0], [0.1, 0.2], 0.5)
    assert (found["tn"], found["specificity"], found["accuracy"]) == (2, 1.0, 1.0)
    names = ("sensitivity", "precision", "f1", "balanced_accuracy")
    assert [found[name] for name in names] == [None] * 4
    with pytest.raises(ValueError, match="NaN"):
        confusion([0], [0.1], float("nan"))
    with pytest.raises(ValueError, match="labels for"):
        confusion([0, 1], [0.1], 0.5)
