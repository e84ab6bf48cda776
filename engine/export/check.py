"""Compares an ONNX file with prediction on the same pictures, read by other libraries."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets.folders.samples import Sample
from datasets.phantom.draw import draw_phantom
from datasets.prediction_dataset import read_input
from datasets.readers.base import optional_package
from engine.predictor import Predictor
from utils.intensity import IntensityWindow


def largest_difference(file: Path, predictor: Predictor) -> float:
    """The largest relative difference of scores and maps on three pictures; prints them all.

    Each picture is given to onnxruntime twice, read with Pillow and with OpenCV.
    """
    runtime = optional_package("onnxruntime", "runs exported models", "onnx")
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for picture in _pictures():
            path = Path(folder, "picture.png")
            Image.fromarray(picture).save(path)
            # The model's input has 8 bits: windows are for what has more.
            given = read_input(Sample(path, None), predictor.settings.resize, IntensityWindow())
            (expected,) = predictor.score([given])
            for reader, pixels in (("Pillow", _with_pillow(path)), ("OpenCV", _with_opencv(path))):
                images = pixels.transpose(2, 0, 1)[None]
                (score,), (anomaly_map,) = session.run(None, {"images": images})
                of_score = _difference(score, expected.score)
                of_map = _difference(anomaly_map, expected.case.anomaly_map)
                height, width = picture.shape[:2]
                print(
                    f"{width} × {height} pixels, read with {reader}: score {score:.6g}; "
                    f"it differs by {of_score:.1e}, its map by {of_map:.1e}"
                )
                found += [of_score, of_map]
    # Of NaN and a number, max would give either.
    return float(np.max(found))


def _difference(found: NDArray[np.float32], expected: float | NDArray[np.float32]) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _pictures() -> list[NDArray[np.uint8]]:
    """A head, one cut wide, and a small one in colours: of three sizes."""
    head = draw_phantom(np.random.default_rng(0), 320).image
    small = head[::4, ::5]
    return [head, head[60:250], np.dstack([small, small[::-1], 255 - small])]


def _with_pillow(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def _with_opencv(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return np.asarray(pixels[..., ::-1], np.uint8)
