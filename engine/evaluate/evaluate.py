"""Scoring every image of a split; maps are not kept, so memory does not grow with the set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from datasets.dataset import AnomalyDataset, Item, create_loader
from engine.evaluate.scorer import Scorer
from engine.metrics.collectors import Collector
from engine.runtime.process import Runtime, gather, shard
from utils.config.schema import SectionConfig


@dataclass(frozen=True)
class SplitScores:
    """Scores of a split, in its order."""

    model: list[float]  # one per sample
    baseline: list[float] | None  # one per sample, None if the scorer has no baseline


def create_batches(
    runtime: Runtime, dataset: AnomalyDataset, config: SectionConfig, *, persistent: bool = False
) -> Any:
    """This process's share of a split, in batches, for :func:`evaluate`.

    Args:
        runtime: Device and processes.
        dataset: The split.
        config: Says how many images a batch has, and how many processes read.
        persistent: Whether those processes stay, for splits that are scored more than once.
    """
    return create_loader(
        dataset,
        batch_size=config.batch_size_test,
        sampler=list(shard(len(dataset), runtime)),
        num_workers=config.num_workers,
        pin_memory=runtime.device.type == "cuda",
        persistent_workers=persistent,
    )


def evaluate(
    scorer: Scorer,
    dataset: AnomalyDataset,
    batches: Any,
    *,
    description: str,
    collectors: Sequence[Collector] = (),
    baseline_collectors: Sequence[Collector] = (),
) -> SplitScores:
    """Score every sample of a split once, whatever the number of processes.

    Args:
        scorer: What scores.
        dataset: The split.
        batches: What :func:`create_batches` gives for it.
        description: What the progress bar says.
        collectors: Filled with all maps, those of other processes included.
        baseline_collectors: The same with the maps of the scorer's baseline.

    Raises:
        UserError: A file cannot be read, or a score is not finite.
    """
    runtime = scorer.runtime
    scores: dict[int, list[float]] = {}
    with tqdm(
        total=len(shard(len(dataset), runtime)),
        desc=description,
        unit="img",
        disable=None if runtime.is_global_zero else True,
        leave=False,
    ) as bar:
        for batch in batches:
            scores |= _score_batch(scorer, dataset, batch, collectors, baseline_collectors)
            bar.update(len(batch["index"]))
    merged: dict[int, list[float]] = {}
    for part in gather(runtime, scores):
        merged |= part
    for collector in (*collectors, *baseline_collectors):
        for rank, other in enumerate(gather(runtime, collector)):
            if rank != runtime.global_rank:
                collector.merge(other)
    model, *baseline = zip(*(merged[index] for index in range(len(dataset))), strict=True)
    return SplitScores(list(model), list(*baseline) if baseline else None)


def _score_batch(
    scorer: Scorer,
    dataset: AnomalyDataset,
    batch: Item,
    collectors: Sequence[Collector],
    baseline_collectors: Sequence[Collector],
) -> dict[int, list[float]]:
    """Index → score of the model and, where there is one, of the baseline."""
    indices = batch["index"].tolist()
    names = [dataset.split.samples[index].name for index in indices]
    scored = scorer.score(batch["image"], names)
    pairs = [(scored, collectors), (scored.baseline, baseline_collectors)]
    found = [(each, takers) for each, takers in pairs if each is not None]
    for each, takers in found:
        if takers:
            anomaly_maps, masks = each.anomaly_maps.cpu().numpy(), batch["mask"].numpy()
            for collector in takers:
                collector.update(anomaly_maps, masks, indices)
    rows = zip(*(each.scores.tolist() for each, _ in found), strict=True)
    return dict(zip(indices, map(list, rows), strict=True))
