"""What a report shows of: a finished test, a finished prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datasets.folders.find import Split
from engine.evaluate.calibration import Calibration, ColourScale
from engine.evaluate.cases import Case
from engine.metrics.run_metrics import Metrics
from engine.report.volumes import ScoredVolume
from utils.config.load import Config


@dataclass(frozen=True)
class BaselineRun:
    """What a baseline says of the same images.

    Attributes:
        scores: One per image.
        colours: The colour scale of its maps, from normal test images: for display only.
    """

    scores: list[float]
    colours: ColourScale


@dataclass(frozen=True)
class TestRun:
    """A finished test run, as its files and its report show it.

    Attributes:
        config: The configuration.
        split: The test images.
        scores: One per image.
        metrics: The content of metrics.json.
        threshold: Learnt on validation images, None where there is none.
        colours: The colour scale of all maps.
        pixel_threshold: Pixels with this score or above are outlined; None where there is none.
        baseline: The same images by the baseline, None where there is none.
    """

    __test__ = False

    config: Config
    split: Split
    scores: list[float]
    metrics: Metrics
    threshold: float | None
    colours: ColourScale
    pixel_threshold: float | None = None
    baseline: BaselineRun | None = None


@dataclass(frozen=True)
class PredictionRun:
    """A finished prediction, as its report shows it.

    Attributes:
        config: A config with a section [TESTING].
        calibration: Its threshold, which ``threshold`` may replace, and the scale of all maps.
        threshold: An image with this score or above is called anomalous.
        volume_threshold: The same of volumes; None where their worst slice decides.
        scores: Of all images that could be read.
        images: Those that the gallery shows, the highest score first.
        volumes: All, the highest score first.
        errors: Path and error of each file that could not be read, or its map not written.
    """

    config: Config
    calibration: Calibration
    threshold: float
    volume_threshold: float | None
    scores: Sequence[float]
    images: Sequence[Case]
    volumes: Sequence[ScoredVolume]
    errors: Sequence[tuple[str, str]]
