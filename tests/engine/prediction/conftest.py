"""Prediction on volumes with a scorer whose map is the image itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.evaluate.calibration_file import Calibration, ColourScale
from engine.evaluate.scorer import ScoredBatch
from engine.prediction.predict import Output, predict
from engine.predictor import Predictor
from tests.conftest import read_csv

# (N, rows, columns); a bright block in slices 6 and 7, at rows 12 to 16 and columns 5 to 8.
STACK = np.zeros((10, 20, 24), np.uint16)
STACK[6:8, 12:17, 5:9] = 1000
# The same as (X, Y, Z) with the affine that tests.series_files gives it: LPS to RAS.
VOLUME = np.ascontiguousarray(STACK.transpose(2, 1, 0))
AFFINE = np.array([[-1.25, 0, 0, 10], [0, -1.5, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1.0]])


class Brightness:
    """A scorer whose map is the image itself."""

    def score(self, images: torch.Tensor, names: Sequence[str]) -> ScoredBatch:
        pixels = images.float() / 255
        maps = pixels.mean(dim=1)
        return ScoredBatch(maps.amax(dim=(1, 2)), maps, pixels)


@pytest.fixture
def run(tiny, tmp_path, monkeypatch) -> Callable[..., list[dict[str, str]]]:
    """Predicts on sources with :class:`Brightness`; gives the rows of volumes.csv."""

    def run(*sources: Path, keys: Sequence[str] = (), **options: Any) -> list[dict[str, str]]:
        calibration = Calibration(
            *(0.5, "", ColourScale(0, 1, ""), "", 1, 1, ""),
            *(0.5, "", None, {}),
        )
        monkeypatch.setattr(
            Predictor,
            "from_config",
            lambda config, threshold: Predictor(Brightness(), config.testing, calibration),
        )
        config = tiny("INTENSITY_WINDOW=0,1000", *keys)
        predict(
            config, sources, Output(tmp_path / "out", overwrite=True, **options), recursive=True
        )
        return read_csv(tmp_path / "out/volumes.csv")

    return run
