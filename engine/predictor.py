"""Prediction from Python: files, pictures or arrays in; scores, verdicts and maps out.

``run_predict.py`` uses this class too, so both give the same numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress, islice
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from datasets.folders.inputs import find_inputs
from datasets.folders.samples import Sample
from datasets.folders.slicing import Slicing
from datasets.foreground import shows_enough
from datasets.prediction_dataset import Input, Unreadable, input_of, read_input
from datasets.readers.formats import shown
from engine.evaluate.calibration_file import Calibration
from engine.evaluate.cases import Case, score_cases
from engine.evaluate.ensemble import calibrated_scorer
from engine.evaluate.scorer import Scorer
from engine.evaluate.volumes import VolumeRule
from engine.prediction.volume_map import VolumeMap
from models.criteria import resize_maps
from utils.config.load import Config, as_text, load_config
from utils.config.schema import TestingConfig
from utils.errors import UserError

Picture = str | Path | Image.Image | NDArray[np.generic]
SomePicture = TypeVar("SomePicture", bound=Picture)
AnyInput = TypeVar("AnyInput", Input, Input | Unreadable)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """The result for one image.

    Attributes:
        case: What the model saw and reconstructed, RESIZE pixels along each side.
        anomaly_map: (H, W) float32 at the image's own size; higher is more anomalous.
        pixels: (H, W) or (H, W, 3) uint8, the image at its own size, windowed.
        threshold: Scores from here up are called anomalous; None if there is none.
    """

    case: Case
    anomaly_map: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    threshold: float | None

    @property
    def score(self) -> float:
        """The image's anomaly score; higher is more anomalous."""
        return self.case.score

    @property
    def predicted(self) -> bool | None:
        """Whether the image is called anomalous; None without a threshold."""
        return None if self.threshold is None else self.score >= self.threshold

    @property
    def reconstruction(self) -> NDArray[np.uint8]:
        """(RESIZE, RESIZE, 3) uint8: what the model reconstructed."""
        return self.case.reconstruction

    def __repr__(self) -> str:
        return f"Prediction(score={self.score:.6g}, predicted={self.predicted})"


@dataclass(frozen=True)
class VolumePrediction:
    """The result for one volume.

    Attributes:
        score: VOLUME_REDUCTION of ``slices``.
        predicted: Whether it is called anomalous: by its own threshold where one was learnt, else
            by its worst slice; None without a threshold.
        slices: Slice → score, numbered from 0 at the lowest, rearmost or leftmost slice; slices of
            background (MIN_FOREGROUND) are left out.
        anomaly_map: (X, Y, Z) float32 on the grid of the source; 0 in slices that do not count.
        affine: (4, 4), voxel numbers to mm in RAS+.
        worst_slice: The slice of the highest score; None if none counts.
    """

    score: float
    predicted: bool | None
    slices: dict[int, float] = field(repr=False)
    anomaly_map: NDArray[np.float32] = field(repr=False)
    affine: NDArray[np.float64] = field(repr=False)
    worst_slice: int | None


class Predictor:
    """A trained model that scores images. It may be used by several threads at once.

    Args:
        scorer: Model and criterion on their device.
        settings: The section [TESTING].
        calibration: Threshold and colour scale, None if there are none.
        threshold: Instead of the calibration's.

    Raises:
        ValueError: The threshold is NaN or infinite.
    """

    def __init__(
        self,
        scorer: Scorer,
        settings: TestingConfig,
        calibration: Calibration | None,
        threshold: float | None = None,
    ) -> None:
        if threshold is not None and not math.isfinite(threshold):
            raise ValueError(f"threshold {threshold} is not a finite number")
        self.scorer = scorer
        self.settings = settings
        self.calibration = calibration
        self.colours = calibration.colours if calibration else None
        self.pixel_threshold = calibration.pixel_threshold if calibration else None
        self.threshold, self.volume_threshold = threshold, None
        # A threshold of the user's is for slices: the worst slice then decides for a volume.
        if calibration and threshold is None:
            self.threshold = calibration.threshold
            self.volume_threshold = calibration.volume_threshold

    @property
    def volume_rule(self) -> VolumeRule:
        """How volumes are scored and called."""
        return VolumeRule(self.settings.volume_reduction, self.volume_threshold, self.threshold)

    @classmethod
    def from_config(
        cls, config: Config | Path | str, *, threshold: float | None = None, **keys: object
    ) -> Predictor:
        """Load model, weights and calibration as a config says.

        Args:
            config: An INI file with a section [TESTING], or what was loaded from it.
            threshold: Instead of the one learnt on validation images.
            keys: Override keys of an INI file, such as ``DEVICE="cpu"``.

        Raises:
            UserError: Config, checkpoint or weights are not as they should be.
            TypeError: Keys for a config that was loaded already.
        """
        if not isinstance(config, Config):
            overrides = [f"{key}={as_text(value)}" for key, value in keys.items()]
            config = load_config(config, overrides)
        elif keys:
            raise TypeError(f"{', '.join(keys)}: can only override an INI file; pass its path")
        # Processes that share the work would each write all files.
        settings = config.need_testing().model_copy(update={"devices": 1, "num_nodes": 1})
        scorer, found = calibrated_scorer(replace(config, testing=settings))
        calibration = found if isinstance(found, Calibration) else None
        if calibration is None:
            logger.warning("no threshold was learnt: %s", found)
        return cls(scorer, settings, calibration, threshold)

    @overload
    def __call__(self, images: Picture) -> Prediction: ...
    @overload
    def __call__(self, images: list[SomePicture] | tuple[SomePicture, ...]) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Iterator[SomePicture]) -> Iterator[Prediction]: ...
    def __call__(
        self, images: Picture | list[SomePicture] | tuple[SomePicture, ...] | Iterator[SomePicture]
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Score one image, a list in batches of BATCH_SIZE_TEST, or an iterator as it comes.

        Args:
            images: A path, a PIL image, or an array (H, W) or (H, W, 3) of numbers, which go
                through INTENSITY_WINDOW (``auto`` leaves uint8 as it is); or several of them.

        Raises:
            UserError: A file cannot be read, or contains several images.
            TypeError: It is none of these.
            ValueError: An array has another shape, or contains NaN or infinite values.
        """
        if isinstance(images, Iterator):
            return self._stream(images)
        if isinstance(images, list | tuple):
            return list(self._stream(images))
        return next(self._stream([images]))

    def _stream(self, images: Iterable[Picture]) -> Iterator[Prediction]:
        size, window = self.settings.resize, self.settings.window
        inputs = (
            input_of(image, f"image {number}", size, window) for number, image in enumerate(images)
        )
        while batch := list(islice(inputs, self.settings.batch_size_test)):
            yield from self.score(batch)

    def volume(self, path: Path | str) -> VolumePrediction:
        """Score a NIfTI file, the DICOM series of a folder, or a DICOM file of many frames.

        Raises:
            UserError: There is no volume, or more than one, or a slice cannot be read.
        """
        samples = self.samples([Path(path)])
        names = {each.volume_name for each in samples}
        if len(names) > 1 or None in names:
            samples[0].read(self.settings.window)  # what cannot be read says why
            raise UserError(
                f"{shown(Path(path))}: must contain exactly one volume; for a DICOM series, pass "
                "its folder"
            )
        return self.join(self.slices(samples))

    def samples(self, paths: Sequence[Path]) -> tuple[Sample, ...]:
        """The images of files and folders, subfolders included; volumes as their slices.

        Raises:
            UserError: A path does not exist, a folder holds no image, or a DICOM series cannot be
                put in order.
        """
        problems: list[tuple[Path, str]] = []
        slicing = Slicing.of(self.settings)
        samples = find_inputs(paths, recursive=True, slicing=slicing, problems=problems)
        for path, problem in problems:
            place = f"{shown(path)}: "
            # The end of a series' problem says what becomes of its files in a prediction.
            text = place + problem.rsplit(";", 1)[0].removeprefix(place)
            if not (path.exists() and any(sample.series for sample in samples)):
                raise UserError(text)
            logger.warning("%s", text)
        return samples

    def slices(self, samples: Sequence[Sample]) -> Iterator[tuple[Input, Prediction | None]]:
        """Read and score samples in batches as they are asked for; None for slices of background.

        Raises:
            UserError: One cannot be read.
        """
        settings = self.settings
        inputs = (read_input(each, settings.resize, settings.window) for each in samples)
        while batch := list(islice(inputs, settings.batch_size_test)):
            yield from self.score_readable(batch)

    def join(self, slices: Iterable[tuple[Input, Prediction | None]]) -> VolumePrediction:
        """The result for a volume from all its slices; there is at least one."""
        pairs = iter(slices)
        first = next(pairs)
        volume = VolumeMap(first[0].sample)
        for each, prediction in chain([first], pairs):
            if prediction is not None:
                volume.add(each.sample, prediction.score, prediction.anomaly_map)
        cells = self.volume_rule.cells(list(volume.scores.values()))
        return VolumePrediction(
            score=cells.score,
            predicted=None if cells.predicted is None else bool(cells.predicted),
            slices=volume.scores,
            anomaly_map=volume.on_grid(),
            affine=volume.grid.affine,
            worst_slice=volume.worst_slice,
        )

    def score_readable(
        self, inputs: Sequence[AnyInput]
    ) -> Iterator[tuple[AnyInput, Prediction | None]]:
        """Score a batch of what was read; None for what was not, and for slices of background."""
        least = self.settings.min_foreground
        counted = [
            isinstance(each, Input) and shows_enough(each.sample, each.pixels, least)
            for each in inputs
        ]
        chosen = [each for each in compress(inputs, counted) if isinstance(each, Input)]
        predictions = iter(self.score(chosen) if chosen else [])
        for each, counts in zip(inputs, counted, strict=True):
            yield each, next(predictions) if counts else None

    def score(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Score a batch of inputs that were read.

        Raises:
            UserError: A score is not finite.
        """
        images = torch.stack([each.image for each in inputs])
        cases = score_cases(self.scorer, images, [each.sample.name for each in inputs])
        predictions = []
        for each, case in zip(inputs, cases, strict=True):
            maps = torch.from_numpy(case.anomaly_map)[None, None, None]
            anomaly_map = resize_maps(maps, each.pixels.shape[:2])[0, 0, 0].numpy()
            predictions.append(Prediction(case, anomaly_map, each.pixels, self.threshold))
        return predictions
