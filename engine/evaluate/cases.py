"""Which images to look at, and their pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.dataset import AnomalyDataset
from datasets.folders.find import ANOMALOUS, NORMAL
from datasets.transforms import to_bytes
from engine.evaluate.scorer import Scorer


@dataclass(frozen=True)
class Case:
    """One image to look at.

    Attributes:
        index: Position in the split.
        name: The image's path.
        label: 0 normal, 1 anomalous.
        score: Its anomaly score.
        image: (H, W, 3) uint8.
        reconstruction: (H, W, 3) uint8.
        anomaly_map: (H, W) float32.
        mask: (H, W) bool.
    """

    index: int
    name: str
    label: int
    score: float
    image: NDArray[np.uint8]
    reconstruction: NDArray[np.uint8]
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]


def worst_first(labels: Sequence[int], scores: Sequence[float]) -> list[int]:
    """Indices, the most misleading first: high-scored normal and low-scored anomalous images.

    How misleading an image is, is the share of the other class that it is on the wrong side of.
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
    return np.lexsort((signed, -wrong_side)).tolist()


def chosen_cases(
    labels: Sequence[int], scores: Sequence[float], *, each: int, seed: int
) -> dict[str, list[int]]:
    """Disjoint indices of the ``each`` worst, best and seeded random cases, the latter by score."""
    order = worst_first(labels, scores)
    each = min(each, len(order) // 3) or min(1, len(order))
    worst, best = order[:each], _best(order[each:], labels, each)
    rest = [index for index in order if index not in {*worst, *best}]
    drawn = random.Random(seed).sample(rest, min(each, len(rest)))
    return {
        "worst": worst,
        "best": best,
        "random": sorted(drawn, key=lambda index: scores[index]),
    }


def _best(order: Sequence[int], labels: Sequence[int], count: int) -> list[int]:
    """The best of both classes in turn, since one class alone would say little."""
    queues = [[i for i in reversed(order) if labels[i] == label] for label in (ANOMALOUS, NORMAL)]
    best: list[int] = []
    while len(best) < count and any(queues):
        best += [queue.pop(0) for queue in queues if queue]
    return best[:count]


def render_cases(
    scorer: Scorer, dataset: AnomalyDataset, indices: Sequence[int], *, batch_size: int
) -> dict[int, Case]:
    """Score some images again, this time keeping what can be looked at, by index."""
    cases = {}
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        items = [dataset[index] for index in chosen]
        images = torch.stack([item["image"] for item in items])
        names = [dataset.split.samples[index].name for index in chosen]
        scored = scorer.score(images.to(scorer.fabric.device), names)
        reconstructions = to_bytes(scored.reconstructions)
        for position, index in enumerate(chosen):
            cases[index] = Case(
                index=index,
                name=names[position],
                label=dataset.split.labels[index],
                score=float(scored.scores[position]),
                image=images[position].permute(1, 2, 0).numpy(),
                reconstruction=reconstructions[position].permute(1, 2, 0).numpy(),
                anomaly_map=scored.anomaly_maps[position].cpu().numpy(),
                mask=items[position]["mask"].numpy(),
            )
    return cases
