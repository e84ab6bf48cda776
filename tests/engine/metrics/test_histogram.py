"""The histogram against counting: below its exact limit, above it, merged and reordered."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.metrics.bins import PagedBins, ordered_keys, scores_of
from engine.metrics.histogram import EXACT_LIMIT, Curve, ScoreHistogram, SortedScores

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SCORES = hnp.arrays(np.float32, st.integers(1, 60), elements=FINITE)


def histogram_of(scores, labels, weights=None, exact_limit=EXACT_LIMIT) -> ScoreHistogram:
    histogram = ScoreHistogram(exact_limit)
    histogram.update(ordered_keys(scores), labels, weights)
    return histogram


def curves_are_equal(one: Curve, two: Curve) -> None:
    for name in ("thresholds", "tp", "fp"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    np.testing.assert_allclose(one.overlap, two.overlap, rtol=1e-12, atol=1e-12)


def counts_are_right(curve: Curve, scores, labels) -> None:
    at_least = scores >= curve.thresholds[:, None]  # (K, N)
    np.testing.assert_array_equal(curve.tp, (at_least & labels).sum(axis=1))
    np.testing.assert_array_equal(curve.fp, (at_least & ~labels).sum(axis=1))


@given(SCORES)
def test_keys_sort_like_scores_and_lead_back(scores):
    keys = ordered_keys(scores)
    np.testing.assert_array_equal(keys[:, None] < keys, scores[:, None] < scores)
    np.testing.assert_array_equal(keys[:, None] == keys, scores[:, None] == scores)
    np.testing.assert_array_equal(scores_of(keys), scores)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        ordered_keys(np.array([0.1, bad, 0.2]))
    if not np.isfinite(bad):
        with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
            SortedScores([0, 1], [0.1, bad])


@settings(max_examples=30)
@given(SCORES, st.data())
def test_curves_count_at_every_threshold(scores, data):
    labels = data.draw(hnp.arrays(np.bool_, len(scores)))
    exact, binned = (
        histogram_of(scores, labels, exact_limit=limit).curve() for limit in (EXACT_LIMIT, 0)
    )
    np.testing.assert_array_equal(exact.thresholds[1:], np.unique(scores)[::-1])
    curves_are_equal(exact, SortedScores(labels, scores).curve())
    for curve in (exact, binned):
        counts_are_right(curve, scores, labels)
        assert np.all(np.diff(curve.thresholds) < 0)
        assert (curve.anomalous, curve.normal) == (labels.sum(), (~labels).sum())


@given(SCORES, st.data())
def test_a_weight_counts_like_repeated_elements(scores, data):
    labels = data.draw(hnp.arrays(np.bool_, len(scores)))
    times = data.draw(hnp.arrays(np.int64, len(scores), elements=st.integers(0, 3)))
    curve = SortedScores(labels, scores).curve(times)
    counts_are_right(curve, np.repeat(scores, times), np.repeat(labels, times))


def test_scores_over_the_whole_range_keep_the_promised_resolution_and_memory():
    keys = np.arange(0, 1 << 32, 1 << 17, dtype=np.int64).astype(np.uint32)
    keys = keys[np.isfinite(scores_of(keys))]
    bins = PagedBins(3, 5 << 19)
    bins.add(0, keys)
    assert 1 << (23 - bins.shift) >= 4096
    assert bins.counts.nbytes <= 3 * 8 * (5 << 19)
    assert bins.descending(0).sum() == len(keys)
    assert np.isfinite(bins.thresholds()).all()


@pytest.mark.parametrize("exact_limit", [EXACT_LIMIT, 1000, 0])
def test_batches_in_any_order_and_merged_parts_equal_the_whole(exact_limit):
    generator = np.random.default_rng(5)
    scores = (np.exp(generator.normal(0, 9, 4000)) - 1e-3).astype(np.float32)
    labels = generator.random(len(scores)) < 0.3
    weights = np.zeros(len(scores))
    weights[labels] = generator.random(labels.sum())
    whole = histogram_of(scores, labels, weights[labels], exact_limit)
    parts = np.array_split(generator.permutation(len(scores)), 7)
    merged = ScoreHistogram(exact_limit)
    for few in (parts[:2], parts[2:6], parts[6:], []):
        one = ScoreHistogram(exact_limit)
        for part in few:
            keys = ordered_keys(scores[part])
            one.update(keys, labels[part], weights[part][labels[part]])
        merged.merge(pickle.loads(pickle.dumps(one)))
    assert merged.size == whole.size == len(scores)
    curves_are_equal(merged.curve(), whole.curve())
