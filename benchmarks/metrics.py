"""Seconds and memory of the streaming pixel metrics, on simulated maps of 224 x 224.

    python -m benchmarks.metrics                  # 186 million pixels, BMAD brain's test set
    python -m benchmarks.metrics --pixels 10000000 --sklearn

Run from the repository's root, on Linux: memory is the peak of resident memory above what the
process held before, read from /proc. Making the maps is not counted. ``--sklearn`` puts
scikit-learn's roc_auc_score beside it, which at 186 million pixels takes minutes and 9 GB.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from engine.metrics.bins import ordered_keys
from engine.metrics.bootstrap import PixelBootstrap
from engine.metrics.collectors import PixelMetrics
from engine.metrics.curves import aupro, auroc, average_precision, f1_max, region_weights
from engine.metrics.histogram import ScoreHistogram

SIDE = 224
BATCH = 64
STATUS = Path("/proc/self/status")


class Meter:
    """Adds up the seconds of the calls made through it, and keeps their peak of memory."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = resident("VmRSS")
        self._peak = self._start

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function and meter it."""
        Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's high-water mark
        before = time.perf_counter()
        result = function(*arguments)
        self.seconds += time.perf_counter() - before
        self._peak = max(self._peak, resident("VmHWM"))
        return result

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s   {(self._peak - self._start) / 1e9:5.3f} GB"


def resident(field: str) -> int:
    """Bytes of resident memory: ``VmRSS`` now, ``VmHWM`` the peak."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def batches(maps: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Smooth, skewed score maps (B, H, W), masks and names; five in six maps have lesions."""
    generator = np.random.default_rng(seed)
    for start in range(0, maps, BATCH):
        count = min(BATCH, maps - start)
        scores = generator.standard_exponential((count, SIDE, SIDE), dtype=np.float32)
        masks = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
        for index in range(count):
            scores[index] = cv2.GaussianBlur(scores[index], (0, 0), 1.0) * 0.1
            for _ in range(generator.integers(1, 4) if generator.random() < 5 / 6 else 0):
                centre, axes = generator.integers(20, 204, 2), generator.integers(3, 22, 2)
                cv2.ellipse(masks[index], centre.tolist(), axes.tolist(), 0, 0, 360, 1, -1)
        scores *= 1 + 0.6 * masks
        yield scores, masks.astype(bool), [f"map{start + index}" for index in range(count)]


def measure_histogram(maps: int) -> None:
    """The histogram alone: AUROC, average precision and F1."""
    meter, histogram = Meter(), ScoreHistogram()
    for scores, masks, _ in batches(maps):
        keys = meter(ordered_keys, scores)
        meter(histogram.update, keys, masks)
    curve = meter(histogram.curve)
    values = [meter(metric, curve) for metric in (auroc, average_precision, f1_max)]
    share = curve.anomalous / histogram.size
    print(f"histogram, AUROC, AP, F1   {meter}   AUROC {values[0]:.9f}  AP {values[1]:.7f}")
    print(f"    {histogram.size:,} pixels, {share:.1%} anomalous, {len(curve.tp):,} thresholds")


def measure_pixel_metrics(maps: int) -> None:
    """All pixel metrics, AUPRO with its regions included, without intervals."""
    meter, metrics = Meter(), PixelMetrics()
    for scores, masks, _ in batches(maps):
        meter(metrics.update, scores, masks, ())
    found = meter(metrics.compute)
    print(f"all, {maps} maps           {meter}   AUPRO {found['pixel_aupro']:.7f}")


def measure_aupro(maps: int = 1000) -> None:
    """AUPRO on its own: regions, histogram and integral."""
    meter, histogram = Meter(), ScoreHistogram()

    def update(scores: np.ndarray, masks: np.ndarray) -> None:
        weights = np.concatenate([region_weights(mask) for mask in masks])
        histogram.update(ordered_keys(scores), masks, weights)

    for scores, masks, _ in batches(maps):
        meter(update, scores, masks)
    value = meter(lambda: aupro(histogram.curve()))
    print(f"AUPRO, {maps} maps          {meter}   AUPRO {value:.7f}")


def measure_bootstrap(maps: int = 1000) -> None:
    """What intervals cost on top: 200 replicates."""
    updating, final, bootstrap = Meter(), Meter(), PixelBootstrap(seed=0, replicates=200)
    for scores, masks, names in batches(maps):
        keys, weights = ordered_keys(scores), [region_weights(mask) for mask in masks]
        updating(bootstrap.update, keys, masks, weights, names)
    low, high = final(bootstrap.intervals)["pixel_auroc"]
    print(f"bootstrap, {maps} maps      {updating}   {1e3 * updating.seconds / maps:.2f} ms a map")
    print(f"bootstrap, intervals       {final}   AUROC {low:.4f} to {high:.4f}")


def measure_scikit_learn(maps: int) -> None:
    """scikit-learn's roc_auc_score on the same pixels, all held at once."""
    pairs = [(scores.ravel(), masks.ravel()) for scores, masks, _ in batches(maps)]
    scores, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
    del pairs
    meter = Meter()
    value = meter(roc_auc_score, labels, scores)
    print(f"scikit-learn, AUROC        {meter}   AUROC {value:.9f}")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=186_000_000, help="pixels of the histogram")
    parser.add_argument("--sklearn", action="store_true", help="measure scikit-learn beside it")
    options = parser.parse_args()
    maps = max(1, round(options.pixels / SIDE**2))
    for _ in batches(BATCH):  # warms the allocator up, so that it is not counted
        pass
    for measure in (measure_histogram, measure_pixel_metrics):
        measure(maps)
    measure_aupro()
    measure_bootstrap()
    if options.sklearn:
        measure_scikit_learn(maps)


if __name__ == "__main__":
    main()
