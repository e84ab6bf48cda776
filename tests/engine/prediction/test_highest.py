"""The highest of a stream, against sorting all of it."""

from hypothesis import given
from hypothesis import strategies as st

from engine.prediction.highest import Highest


@given(scores=st.lists(st.integers(0, 5)), limit=st.integers(0, 8))
def test_the_highest_are_kept_and_of_equals_the_first(scores, limit):
    highest = Highest[int](limit)
    left = [highest.take(score, number) for number, score in enumerate(scores)]
    ranked = sorted(range(len(scores)), key=lambda number: -scores[number])
    assert highest.entries() == ranked[:limit]
    assert sorted(each for each in left if each is not None) == sorted(ranked[limit:])
