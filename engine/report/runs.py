"""What a report shows: a finished test, a finished prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

from datasets.folders.find import Split
from engine.evaluate.calibration_file import Calibration, ColourScale
from engine.evaluate.cases import Case
from engine.evaluate.volumes import VolumeRule
from engine.metrics.run_metrics import Metrics
from engine.report.volumes import ScoredVolume
from utils.config.load import Config


@dataclass(frozen=True)
class BaselineRun:
    """The result of the baseline for the same images."""

    scores: list[float]  # one per image
    colours: ColourScale  # the colour scale of its maps, from normal test images: for display only


@dataclass(frozen=True)
class TestRun:
    """A finished test run, as its files and its report show it."""

    __test__ = False

    config: Config
    split: Split  # the test images
    scores: list[float]  # one per image
    metrics: Metrics  # the content of metrics.json
    colours: ColourScale  # the colour scale of all maps
    baseline: BaselineRun | None = None  # the same images by the baseline, None if there is none
    no_threshold: str = ""  # why there is no threshold

    @property
    def threshold(self) -> float | None:
        """Learnt on validation images, None if there is none."""
        return self.metrics["threshold"]

    @property
    def volume_rule(self) -> VolumeRule:
        """How volumes are scored and called."""
        reduction = self.config.need_testing().volume_reduction
        return VolumeRule(reduction, self.metrics["volume_threshold"], self.threshold)

    @property
    def pixel_threshold(self) -> float | None:
        """Pixels with this score or above are outlined; None if there is none."""
        return self.metrics["pixel_threshold"]


@dataclass(frozen=True)
class PredictionRun:
    """A finished prediction, as its report shows it."""

    config: Config
    # Its threshold, which ``threshold`` may replace, and the scale of all maps.
    calibration: Calibration
    threshold: float  # an image with this score or above is called anomalous
    volume_threshold: float | None  # the same of volumes; None if their worst slice decides
    scores: Sequence[float]  # of all images that could be read
    images: Sequence[Case]  # those that the gallery shows, the highest score first
    volumes: Sequence[ScoredVolume]  # all, the highest score first
    # Path and error of each file that could not be read, or its map not written.
    errors: Sequence[tuple[str, str]]
