"""Reports of made-up runs, written as the programs write them."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from datasets.folders.find import Sample, Split
from engine.evaluate.calibration_file import Calibration, ColourScale
from engine.evaluate.cases import Case, chosen_cases, worst_first
from engine.metrics.bootstrap import score_replicates
from engine.metrics.collectors import PixelMetrics
from engine.metrics.run_metrics import run_metrics
from engine.report.cards import GALLERY_PART
from engine.report.charts import histogram_figure, roc_figure
from engine.report.pages import write_prediction_report, write_report
from engine.report.runs import PredictionRun, TestRun
from engine.report.volumes import ScoredVolume, VolumePictures, evenly_chosen, slice_view
from utils.config.load import load_config

CONFIG = Path(__file__).parents[2] / "golden" / "golden.ini"
COLOURS = ColourScale(0.2, 1.0, "normal images of data/valid")
# What scripts in a browser look with.
VISIBLE = """
const cards = () => [...document.querySelectorAll(".card")].filter((card) => !card.hidden);
const scores = () => cards().map((card) => Number(card.dataset.score));
const press = (group) => document.querySelector(`[name=group][value="${group}"]`).click();
const set = (id, value, event) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event(event, {bubbles: true}));
};
"""


def noise(index: int, size: int, channels: int = 3) -> np.ndarray:
    shape = (size, size, channels)
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def make_run(
    *overrides,
    labels=(0, 0, 0, 1, 1, 1),
    scores=(0.1, 0.2, 0.8, 0.3, 0.9, 1.0),
    names=None,
    threshold=0.5,
    masks=True,
    unit="image",
    pixel_threshold=None,
    colours=COLOURS,
    no_threshold="",
) -> TestRun:
    names = names or [f"data/test/{index:03d}.png" for index in range(len(labels))]
    samples = tuple(Sample(Path(n), label) for n, label in zip(names, labels, strict=True))
    split = Split(Path("data/test"), samples, masks, num_left_out=2)
    config = load_config(CONFIG, ("TRAINING.VAL_DATA_PATH=data/valid", *overrides))
    groups = [str(index // 2) for index in range(len(labels))]
    drawn = score_replicates(labels, scores, groups)
    metrics = run_metrics(split, scores, PixelMetrics(), drawn, groups=groups, threshold=threshold)
    calibration = {"method": "best F1", "val_data_path": "data/valid"}
    calibration |= {"num_normal": 39, "num_anomalous": 44}
    metrics |= {
        "interval_unit": unit,
        "num_volumes": 0,
        "volume_threshold": None,
        "pixel_threshold": pixel_threshold,
        "calibration": calibration if threshold is not None else None,
        "checkpoint": "last_ckpt.pth",
        "seed": 0,
        "versions": {"torch": "2.0", "timm": "1.0"},
    }
    return TestRun(config, split, list(scores), metrics, colours, no_threshold=no_threshold)


def make_case(split: Split, index: int, size: int) -> Case:
    anomaly_map = noise(index, size, 1)[..., 0].astype(np.float32) / 255
    mask = (anomaly_map > 0.5) & bool(split.labels[index]) if split.has_masks else None
    return Case(
        name=str(split.samples[index].path),
        score=1e9,  # rendering scores once more, and may differ in the last digits
        image=noise(index, size),
        reconstruction=noise(index + 1, size),
        anomaly_map=anomaly_map,
        label=split.labels[index],
        mask=mask,
    )


def make_volume(
    name="data/scan.nii.gz",
    scores=(0.1, 0.7, 0.4),
    *,
    size=16,
    label=None,
    predicted=1,
    pixel_threshold=0.5,
    extent=(100.0, 100.0),
) -> ScoredVolume:
    """A made-up volume of pictures of noise."""
    worst = max(range(len(scores)), key=scores.__getitem__)
    slices = tuple(
        slice_view(
            number,
            noise(number, size),
            noise(number + 1, size, 1)[..., 0].astype(np.float32) / 255,
            COLOURS,
            pixel_threshold,
            None if label is None else noise(number + 2, size, 1)[..., 0] > 127,
        )
        for number in sorted({*evenly_chosen(len(scores)), worst})
    )
    pictures = VolumePictures(slices, dict(enumerate(scores)), len(scores), extent)
    return ScoredVolume(name, max(scores), predicted, label, pictures)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Writes the report of a made-up test and returns it."""

    def write(*overrides, size=16, volumes=(), **kwargs) -> str:
        run = make_run(*overrides, **kwargs)
        labels, limit = run.split.labels, run.config.testing.report_images
        order = worst_first(labels, run.scores, run.threshold)
        chosen = chosen_cases(order, labels, limit=limit, part=GALLERY_PART, seed=0).values()
        cases = {i: make_case(run.split, i, size) for i in order if i in {*chain(*chosen)}}
        roc = roc_figure(labels, run.scores, run.metrics["confusion"])
        histogram = histogram_figure(run.scores, labels, run.threshold)
        write_report(run, cases, roc, histogram, tmp_path / "report.html", volumes)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


@pytest.fixture
def predicted(tmp_path: Path) -> Callable[..., str]:
    """Writes the report of a made-up prediction and returns it."""

    def write(
        *overrides,
        names=("a.png", "b.png"),
        scores=(0.9, 0.1),
        val_data_path="data/valid",
        colours=COLOURS,
        errors=(("bad.png", "bad.png: is empty"),),
        pixel_threshold=2.0,
        threshold=0.5,
        volumes=(),
    ) -> str:
        calibration = Calibration(
            *(0.5, "best F1", colours, val_data_path, 39, 44, ""),
            *(pixel_threshold, "best Dice", None, {}),
        )
        images = [
            Case(name, score, noise(1, 16), noise(2, 16), np.eye(16, dtype=np.float32))
            for name, score in sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
        ]
        config = load_config(CONFIG, overrides)
        run = PredictionRun(config, calibration, threshold, None, scores, images, volumes, errors)
        write_prediction_report(run, tmp_path / "prediction.html")
        return (tmp_path / "prediction.html").read_text(encoding="utf-8")

    return write


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Callable[..., tuple[dict, list[str]]]:
    """Opens a page in a browser, with its policy or without, and runs the body of a function there.

    Gives what the function returns, and what the browser complained about.
    """

    def visit(page: str, body: str, *, guarded=True, width=1400) -> tuple[dict, list[str]]:
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        viewport, console = {"width": width, "height": 900}, []
        with browser.new_context(viewport=viewport, bypass_csp=not guarded) as context:
            opened = context.new_page()
            opened.on("console", lambda said: console.append(said.text))
            opened.on("pageerror", lambda error: console.append(str(error)))
            opened.goto((tmp_path / "page.html").as_uri())
            return opened.evaluate(f"async () => {{ {VISIBLE} {body} }}"), console

    return visit


@pytest.fixture(params=["test", "prediction"])
def page(request: pytest.FixtureRequest) -> str:
    """A report of either kind."""
    fixture = "written" if request.param == "test" else "predicted"
    return request.getfixturevalue(fixture)()
