"""Which images the gallery of a test's report shows."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.folders.find import ANOMALOUS
from engine.evaluate.cases import chosen_cases, worst_first

# One in so many images of a gallery is one of the best, and one in so many is a random one.
_PART = 5


def misleading_first(
    labels: Sequence[int], scores: Sequence[float], threshold: float | None
) -> list[int]:
    """All indices: wrong decisions, then the rest, both with the most misleading image first."""
    order = worst_first(labels, scores)
    # Sorting is stable: within right and within wrong ones the order stays.
    return sorted(order, key=lambda index: not is_wrong(labels[index], scores[index], threshold))


def is_wrong(label: int, score: float, threshold: float | None) -> bool:
    """Whether the threshold decides wrongly; without one nothing is decided."""
    return threshold is not None and (score >= threshold) != (label == ANOMALOUS)


def gallery_indices(
    labels: Sequence[int],
    scores: Sequence[float],
    threshold: float | None,
    *,
    limit: int,
    seed: int,
) -> list[int]:
    """At most ``limit`` different indices to show, the most misleading first.

    Some of the best images and some random ones are among them, since a gallery of failures alone
    would mislead as well.
    """
    order = misleading_first(labels, scores, threshold)
    each = limit // _PART
    if limit >= len(order) or not each:
        return order[:limit]
    chosen = chosen_cases(labels, scores, each=each, seed=seed)
    others = {*chosen["best"], *chosen["random"]}
    worst = [index for index in order if index not in others][: limit - len(others)]
    shown = others.union(worst)
    return [index for index in order if index in shown]


def gallery_note(
    labels: Sequence[int],
    scores: Sequence[float],
    threshold: float | None,
    shown: Sequence[int],
) -> str:
    """What the reader of a test's gallery must know of the choice of its images."""
    note = shown_note(len(shown), len(scores))
    if not shown or len(shown) == len(scores):
        return note
    if each := len(shown) // _PART:
        note += f" Besides the most misleading ones, these are {each:,} of the best and {each:,} "
        note += "drawn at random."
    if threshold is None:
        return note
    wrong = {i for i, s in enumerate(scores) if is_wrong(labels[i], s, threshold)}
    num_shown = len(wrong.intersection(shown))
    return f"{note} {num_shown:,} of {len(wrong):,} wrong decisions are among them."


def shown_note(shown: int, total: int) -> str:
    """How many images the gallery shows."""
    if not shown and total:
        return f"The gallery is left out, since REPORT_IMAGES is 0. The set has {total:,} images."
    return f"Showing {shown:,} of {total:,} images."
