"""Prediction: images without labels to scores, verdicts, maps and overlays."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from datasets.folders.inputs import find_inputs
from datasets.folders.samples import Sample
from datasets.folders.volumes import choose_volume
from datasets.prediction_dataset import Input, PredictionDataset, prediction_loader
from datasets.readers.formats import shown
from datasets.transforms import to_bytes
from engine.evaluate.calibration import Calibration, calibration_for
from engine.evaluate.scorer import ScoredBatch, Scorer, create_scorer
from engine.prediction_results import PredictionFiles
from engine.report.pages import PredictedImage, write_prediction_report
from engine.run_folder import check_results_folder
from models.criteria import resize_maps
from utils.config.load import Config
from utils.errors import UserError
from utils.run_files import TestFiles

logger = logging.getLogger(__name__)


@dataclass
class Predictor:
    """Scores inputs batch by batch and writes what it finds.

    Attributes:
        scorer: What scores.
        calibration: Threshold and colour scale, None where there is none.
        files: Where results go.
        gallery_size: Images that the report shows, the highest scores.
    """

    scorer: Scorer
    calibration: Calibration | None
    files: PredictionFiles
    gallery_size: int
    _gallery: list[tuple[float, int, PredictedImage]] = field(default_factory=list)
    _num_shown: int = 0

    def take(self, inputs: Sequence[Input]) -> None:
        """Score the readable inputs of a batch, and note the others."""
        for each in inputs:
            if each.image is None:
                self.files.note_error(each.sample, each.error)
        readable = [each for each in inputs if each.image is not None]
        if not readable:
            return
        images = torch.stack([each.image for each in readable if each.image is not None])
        scored = self.scorer.score(
            images.to(self.scorer.fabric.device), [each.sample.name for each in readable]
        )
        reconstructions = to_bytes(scored.reconstructions)
        for position, each in enumerate(readable):
            self._write(each, scored, position)
            self._show(each, images[position], reconstructions[position], scored, position)

    def _write(self, each: Input, scored: ScoredBatch, position: int) -> None:
        assert each.pixels is not None
        score = float(scored.scores[position])
        own_size = each.pixels.shape[:2]
        maps = scored.anomaly_maps[position][None, None, None]
        anomaly_map = resize_maps(maps, own_size)[0, 0, 0].float().cpu().numpy()
        colours = self.calibration.colours if self.calibration else None
        try:
            self.files.write_image(each, score, self.verdict(score), anomaly_map, colours)
        except UserError as error:
            self.files.note_error(each.sample, str(error))

    def _show(
        self,
        each: Input,
        image: torch.Tensor,
        reconstruction: torch.Tensor,
        scored: ScoredBatch,
        position: int,
    ) -> None:
        """Keep the highest scores for the report."""
        score = float(scored.scores[position])
        picture = PredictedImage(
            name=each.sample.name,
            score=score,
            image=_pixels(image),
            reconstruction=_pixels(reconstruction),
            anomaly_map=scored.anomaly_maps[position].cpu().numpy(),
        )
        # The running number settles ties, since pictures cannot be compared.
        self._num_shown += 1
        entry = (score, -self._num_shown, picture)
        if len(self._gallery) < self.gallery_size:
            heapq.heappush(self._gallery, entry)
        elif self.gallery_size:
            heapq.heappushpop(self._gallery, entry)

    def verdict(self, score: float) -> bool | None:
        """Whether a score is called anomalous; None without a threshold."""
        return None if self.calibration is None else score >= self.calibration.threshold

    def gallery(self) -> list[PredictedImage]:
        """The images with the highest scores, highest first."""
        highest = sorted(self._gallery, key=lambda entry: entry[:2], reverse=True)
        return [picture for _, _, picture in highest]


def _pixels(image: torch.Tensor) -> NDArray[np.uint8]:
    return image.permute(1, 2, 0).contiguous().numpy()


def predict(config: Config, source: Path, output: Path | None, *, recursive: bool) -> int:
    """Score images without labels; a file that cannot be read does not stop the others.

    Args:
        config: A config with a section [TESTING].
        source: An image file, a volume, or a folder of them.
        output: Folder of the results; None for ``predictions`` under RESULTS_PATH.
        recursive: Whether subfolders are searched too.

    Returns:
        How many files could not be read.

    Raises:
        UserError: Something the user can fix.
    """
    # Processes that share the work would each write all files.
    settings = config.need_testing().model_copy(update={"devices": 1, "num_nodes": 1})
    folder = output or settings.results_path / "predictions"
    if source.is_dir() and source.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"--output: {folder} lies inside --input: its pictures would become inputs")
    check_results_folder(config, folder, key="--output" if output else "RESULTS_PATH")
    if TestFiles(folder).metrics.exists():
        raise UserError(f"--output: {shown(folder)} holds the results of a test; give another one")
    inputs = find_inputs(source, recursive, axis=settings.slice_axis)
    samples = list(choose_volume(inputs, settings.volume_index))
    scorer = create_scorer(settings, file=config.file)
    calibration = calibration_for(config, scorer)
    if calibration is None:
        logger.warning("without validation images there are no verdicts, overlays and report")
    predictor = Predictor(
        scorer,
        calibration,
        PredictionFiles(folder, source if source.is_dir() else source.parent),
        settings.report_images,
    )
    _run(predictor, samples, config)
    predictor.files.write_tables(calibration.colours if calibration else None)
    if calibration is not None:
        write_prediction_report(
            config,
            calibration,
            predictor.files.scores,
            predictor.gallery(),
            predictor.files.errors,
            folder / "report.html",
        )
    num_errors = len(predictor.files.errors)
    print(f"{predictor.files.num_images} images scored, {num_errors} not readable; see {folder}")
    return num_errors


def _run(predictor: Predictor, samples: Sequence[Sample], config: Config) -> None:
    settings = config.need_testing()
    loader = prediction_loader(
        PredictionDataset(samples, settings.resize, settings.window),
        batch_size=settings.batch_size_test,
        num_workers=settings.num_workers,
    )
    with tqdm(total=len(samples), desc="prediction", unit="img", leave=False, disable=None) as bar:
        for inputs in loader:
            predictor.take(inputs)
            bar.update(len(inputs))
