"""Which images to look at, and their pictures."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.dataset import AnomalyDataset
from datasets.folders.find import ANOMALOUS, NORMAL
from datasets.transforms import to_bytes
from engine.evaluate.scorer import Scorer


@dataclass(frozen=True)
class Case:
    """One image to look at."""

    name: str  # the image's path
    score: float
    image: NDArray[np.uint8]  # (H, W, 3) uint8
    reconstruction: NDArray[np.uint8]  # (H, W, 3) uint8
    anomaly_map: NDArray[np.float32]  # (H, W) float32
    label: int | None = None  # 0 normal, 1 anomalous, None if unknown
    mask: NDArray[np.bool_] | None = None  # (H, W) bool, None if there are no masks
    baseline_map: NDArray[np.float32] | None = None  # (H, W) float32, None without a baseline


def is_wrong(label: int, score: float, threshold: float | None) -> bool:
    """Whether the threshold decides wrongly; without one nothing is decided."""
    return threshold is not None and (score >= threshold) != (label == ANOMALOUS)


def worst_first(
    labels: Sequence[int], scores: Sequence[float], threshold: float | None
) -> list[int]:
    """All indices: wrong decisions, then the rest, both with the most misleading image first.

    Misleading are high-scored normal and low-scored anomalous images; the measure is the share of
    the other class that scores beyond the image.
    """
    values, classes = np.asarray(scores), np.asarray(labels)
    wrong_side = np.zeros(len(values))
    normal, anomalous = (np.sort(values[classes == each]) for each in (NORMAL, ANOMALOUS))
    if len(normal) and len(anomalous):
        above = np.searchsorted(anomalous, values, side="right") / len(anomalous)
        below = 1 - np.searchsorted(normal, values, side="left") / len(normal)
        wrong_side = np.where(classes == NORMAL, above, below)
    # Within equal shares, by distance of the score on the wrong side; then by position.
    signed = np.where(classes == NORMAL, -values, values)
    right = [not is_wrong(*each, threshold) for each in zip(labels, scores, strict=True)]
    return np.lexsort((signed, -wrong_side, np.array(right))).tolist()


def chosen_cases(
    order: Sequence[int], labels: Sequence[int], *, limit: int, part: int, seed: int
) -> dict[str, list[int]]:
    """At most ``limit`` different indices to look at: the worst, some of the best, random ones.

    A choice of only failures would mislead.

    Args:
        order: All indices, the worst first.
        labels: (N,) 0 or 1.
        limit: How many in all.
        part: One in so many is among the best, and as many are random.
        seed: Of the draw.
    """
    limit = min(limit, len(order))
    each = limit // part
    best = _best(order, labels, each)
    others = [index for index in order if index not in best]
    worst, rest = others[: limit - 2 * each], others[limit - 2 * each :]
    drawn = random.Random(seed).sample(rest, each)
    return {"worst": worst, "best": best, "random": [index for index in rest if index in drawn]}


def _best(order: Sequence[int], labels: Sequence[int], count: int) -> list[int]:
    """The best of both classes in turn; those of only one class would say little."""
    queues = [[i for i in reversed(order) if labels[i] == label] for label in (ANOMALOUS, NORMAL)]
    best: list[int] = []
    while len(best) < count:
        best += [queue.pop(0) for queue in queues if queue]
    return best[:count]


def score_cases(scorer: Scorer, images: Tensor, names: Sequence[str]) -> list[Case]:
    """Score a batch, see :meth:`engine.evaluate.scorer.Scorer.score`."""
    scored = scorer.score(images, names)
    reconstructions = to_bytes(scored.reconstructions).permute(0, 2, 3, 1).numpy()
    pixels = images.permute(0, 2, 3, 1).numpy()
    maps = scored.anomaly_maps.cpu().numpy()
    baseline = scored.baseline.anomaly_maps.cpu().numpy() if scored.baseline else None
    # Copies, since a view of a batch keeps the whole batch in memory.
    return [
        Case(
            name=name,
            score=score,
            image=pixels[index].copy(),
            reconstruction=reconstructions[index].copy(),
            anomaly_map=maps[index].copy(),
            baseline_map=None if baseline is None else baseline[index].copy(),
        )
        for index, (name, score) in enumerate(zip(names, scored.scores.tolist(), strict=True))
    ]


def render_cases(
    scorer: Scorer, dataset: AnomalyDataset, indices: Sequence[int], *, batch_size: int
) -> Iterator[tuple[int, Case]]:
    """Score some images again, this time with what can be looked at; with their indices."""
    split = dataset.split
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        items = [dataset[index] for index in chosen]
        images = torch.stack([item["image"] for item in items])
        cases = score_cases(scorer, images, [split.samples[index].name for index in chosen])
        for index, item, case in zip(chosen, items, cases, strict=True):
            mask = item["mask"].numpy() if split.has_masks else None
            yield index, replace(case, label=split.labels[index], mask=mask)
