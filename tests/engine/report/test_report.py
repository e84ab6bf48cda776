"""Reports: complete in themselves, deaf to hostile names, small, plain about what is missing."""

import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from datasets.folders.find import Sample, Split
from engine.evaluate.calibration import Calibration, ColourScale
from engine.evaluate.cases import Case
from engine.metrics.collectors import PixelMetrics
from engine.metrics.run_metrics import run_metrics
from engine.report.charts import (
    chart_svg,
    histogram_figure,
    precision_recall_figure,
    roc_figure,
)
from engine.report.gallery import gallery_indices, misleading_first
from engine.report.pages import PredictedImage, TestRun, write_prediction_report, write_report
from engine.report.pictures import mask_path, overlay, picture
from engine.test import test as run_test
from utils.config.load import load_config

GOLDEN = Path(__file__).parents[2] / "golden"
HOSTILE = "<script>alert(1)</script>\"'&\n\u202e\udc80.png"
COLOURS = ColourScale(0.2, 1.0, "normal images of data/valid")
VERSIONS = {"torch": "2.0", "timm": "1.0"}


class Document(HTMLParser):
    """What a browser would find in a page: elements with attributes, and the text of each tag."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self._tag = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._tag = tag

    def handle_data(self, data):
        self.texts.append((self._tag, data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def of_class(self, name):
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]

    @property
    def text(self):
        shown = (data for tag, data in self.texts if tag not in ("script", "style"))
        return " ".join(" ".join(shown).split())


def noise(index, size, channels=3):
    shape = (size, size, channels) if channels else (size, size)
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def make_run(
    *overrides,
    labels=(0, 0, 0, 1, 1, 1),
    scores=(0.1, 0.2, 0.8, 0.3, 0.9, 1.0),
    names=None,
    threshold=0.5,
    masks=True,
    unit="image",
):
    """A finished test run, made up."""
    names = names or [f"data/test/{index:03d}.png" for index in range(len(labels))]
    samples = tuple(Sample(Path(n), label) for n, label in zip(names, labels, strict=True))
    split = Split(Path("data/test"), samples, masks, num_left_out=2)
    settings = ("TRAINING.VAL_DATA_PATH=data/valid", *overrides)
    config = load_config(GOLDEN / "golden.ini", settings)
    groups = [str(index // 2) for index in range(len(labels))]
    metrics = run_metrics(split, scores, PixelMetrics(), groups=groups, threshold=threshold, seed=0)
    calibration = {"method": "best F1", "val_data_path": "data/valid"}
    calibration |= {"num_normal": 39, "num_anomalous": 44}
    metrics |= {
        "interval_unit": unit,
        "calibration": calibration if threshold is not None else None,
        "checkpoint": "last_ckpt.pth",
        "seed": 0,
        "versions": VERSIONS,
    }
    return TestRun(
        config=config,
        split=split,
        scores=list(scores),
        metrics=metrics,
        threshold=threshold,
        colours=COLOURS,
    )


def make_case(split, index, size):
    sample = split.samples[index]
    anomaly_map = noise(index, size, 0).astype(np.float32) / 255
    mask = anomaly_map > 0.5 if sample.label else np.zeros((size, size), dtype=bool)
    # Rendering scores once more, and may differ in the last digits.
    score = 1e9
    image, reconstruction = noise(index, size), noise(index + 1, size)
    return Case(
        index, str(sample.path), sample.label, score, image, reconstruction, anomaly_map, mask
    )


@pytest.fixture
def written(tmp_path):
    """Writes the report of a made-up run and returns it."""

    def write(*overrides, size=16, **kwargs):
        run = make_run(*overrides, **kwargs)
        labels, settings = run.split.labels, run.config.testing
        indices = gallery_indices(
            labels, run.scores, run.threshold, limit=settings.report_images, seed=settings.seed
        )
        cases = (make_case(run.split, index, size) for index in indices)
        roc = roc_figure(labels, run.scores, run.metrics["confusion"])
        histogram = histogram_figure(run.scores, labels, run.threshold)
        write_report(run, cases, roc, histogram, tmp_path / "report.html")
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


PREDICTED = [
    PredictedImage(name, score, noise(1, 16), noise(2, 16), np.eye(16, dtype=np.float32))
    for name, score in (("a.png", 0.9), ("b.png", 0.1))
]


def predicted(
    tmp_path,
    *overrides,
    val_data_path="data/valid",
    colours=COLOURS,
    scores=(0.9, 0.1),
    images=PREDICTED,
    unreadable=(("bad.png", "bad.png: is empty"),),
):
    """The report of a made-up prediction."""
    config = load_config(GOLDEN / "golden.ini", overrides)
    calibration = Calibration(0.5, "best F1", colours, val_data_path, 39, 44, "")
    path = tmp_path / "prediction.html"
    write_prediction_report(config, calibration, scores, images, unreadable, path)
    return path.read_text(encoding="utf-8")


def test_a_real_test_run_has_a_report(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    run = run_test(load_config("golden.ini", [f"RESULTS_PATH={tmp_path / 'results'}"]))
    page = Document((tmp_path / "results" / "report.html").read_text(encoding="utf-8"))
    assert len(page.of_class("card")) == 4
    assert len(page.of_class("mask")) == 2
    assert f"{run.metrics['pixel_aupro']:.4f}" in page.text
    assert "VAL_DATA_PATH is the test set itself" in page.text


def test_the_report_says_all_that_was_measured(written):
    text = Document(written(unit="patient")).text
    assert "golden" in text
    assert "not a medical device" in text
    assert "images 6" in text
    assert "left out by MAX_SAMPLES_TEST 2" in text
    assert "patients 3" in text
    assert "bootstrap by patient" in text
    assert f"Image AUROC area under the ROC curve: 0.5 is chance, 1 is perfect {8 / 9:.4f}" in text
    assert "best F1 on 39 normal and 44 anomalous images of data/valid" in text
    assert "2 true positive 1 false negative" in text
    assert "1 false positive 2 true negative" in text
    assert "sensitivity 0.6667" in text
    assert "JUNCTION_DIM = 48" in text
    assert "torch 2.0" in text


def test_cards_carry_the_scores_of_the_table_and_their_verdicts(written):
    cards = Document(written()).of_class("card")
    by_score = {float(card["data-score"]): card["data-group"] for card in cards}
    assert by_score == {0.1: "tn", 0.2: "tn", 0.8: "fp", 0.3: "fn", 0.9: "tp", 1.0: "tp"}
    assert {card["data-group"] for card in cards[:2]} == {"fp", "fn"}
    assert [int(card["data-rank"]) for card in cards] == list(range(6))


def test_hostile_names_and_values_stay_text(written):
    names = [HOSTILE, "x\" onerror='alert(1)'.png", "{{ 7 * 7 }}.png", *("abc")]
    html = written(f"EXPERIMENT_NAME={HOSTILE.splitlines()[0]}", names=names)
    page = Document(html)
    assert len(page.all("script")) == 1
    assert html.count("<script") == 1
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    shown = "<script>alert(1)</script>\"'&\\n\\u202e\\udc80.png"
    assert ("h3", shown) in page.texts
    assert ("h3", "{{ 7 * 7 }}.png") in page.texts
    assert f"Image {shown}" in [image["alt"] for image in page.all("img")]
    assert f"EXPERIMENT_NAME = {HOSTILE.splitlines()[0]}" in page.text


def test_hostile_predictions_stay_text(tmp_path):
    html = predicted(
        tmp_path,
        f"EXPERIMENT_NAME={HOSTILE.splitlines()[0]}",
        images=[replace(PREDICTED[0], name=HOSTILE)],
        val_data_path=f"{HOSTILE}\0",
        colours=replace(COLOURS, source=HOSTILE),
        unreadable=[(HOSTILE, HOSTILE)],
    )
    assert html.count("<script") == 1
    assert "\0" not in html
    assert "\u202e" not in html


@pytest.mark.parametrize("kind", ["test", "prediction"])
def test_nothing_is_loaded_from_elsewhere(written, tmp_path, kind):
    html = written() if kind == "test" else predicted(tmp_path)
    page = Document(html)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", html)


@pytest.mark.parametrize("kind", ["test", "prediction"])
def test_internal_links_have_a_target_and_pictures_a_text(written, tmp_path, kind):
    page = Document(written() if kind == "test" else predicted(tmp_path))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    assert all(image["alt"] for image in page.all("img"))


def test_200_images_of_pure_noise_stay_below_20_megabytes(written):
    assert len(written(size=224, **many(200)).encode()) < 20e6


def test_a_picture_of_pure_noise_stays_below_its_share():
    # 18 MB leave two for masks, texts and curves.
    assert len(picture(noise(0, 224))) * 3 * 200 < 18e6
    assert len(picture(noise(0, 1024))) * 3 * 200 < 18e6
    assert len(mask_path(noise(0, 224, 0) > 127)) <= 4000


def many(count):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count).tolist()
    return {"labels": labels, "scores": (rng.random(count) + 0.3 * np.array(labels)).tolist()}


def test_the_gallery_is_bounded_and_says_so(written):
    html = written("REPORT_IMAGES=20", **many(50))
    page = Document(html)
    assert len(page.of_class("card")) == 20
    assert "Showing 20 of 50 images." in page.text
    assert "4 of the best and 4 drawn at random" in page.text


def test_no_gallery_where_none_is_asked_for(written):
    page = Document(written("REPORT_IMAGES=0"))
    assert not page.of_class("card")
    assert "REPORT_IMAGES is 0" in page.text
    assert page.of_class("chart")


def test_without_masks_pixel_metrics_are_not_defined(written):
    page = Document(written(masks=False))
    assert "Pixel AUROC area under the ROC curve: 0.5 is chance, 1 is perfect not defined" in (
        page.text
    )
    assert "has no masks" in page.text
    assert not page.of_class("mask")


def test_without_a_threshold_labels_are_the_filter(written):
    page = Document(written(threshold=None))
    assert "There is no threshold: data/valid has no normal images" in page.text
    assert "there is no confusion matrix" in page.text
    buttons = [b["data-group"] for b in page.all("button")]
    assert buttons == ["", "anomalous", "normal"]
    assert page.text.count("No threshold") == 6


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_a_report(written, label):
    page = Document(written(labels=[label] * 6))
    assert f"curves need both classes: no image is {'anomalous' if label == 0 else 'normal'}" in (
        page.text
    )
    assert "Image AUROC area under the ROC curve: 0.5 is chance, 1 is perfect not defined" in (
        page.text
    )
    assert len(page.of_class("chart")) == 1
    assert len(page.of_class("card")) == 6


def test_a_prediction_has_no_labels_and_no_masks(tmp_path):
    page = Document(predicted(tmp_path))
    assert [card["data-group"] for card in page.of_class("card")] == ["anomalous", "normal"]
    assert "bad.png: is empty" in page.text
    assert "Metrics" not in page.text
    assert "misleading" not in page.text
    assert not page.of_class("mask")


def test_a_prediction_of_unreadable_files_alone_has_a_report(tmp_path):
    nothing = Document(predicted(tmp_path, scores=[], images=[]))
    assert "No image was scored." in nothing.text


def test_reports_are_replaced_as_a_whole(tmp_path):
    predicted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prediction.html"]


SCORED = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(scored=SCORED, threshold=st.none() | st.floats(0, 1), limit=st.integers(0, 70))
def test_the_gallery_holds_as_many_different_images_as_it_may(scored, threshold, limit):
    labels, scores = zip(*scored, strict=True)
    indices = gallery_indices(labels, scores, threshold, limit=limit, seed=0)
    assert len(indices) == len(set(indices)) == min(limit, len(labels))
    order = misleading_first(labels, scores, threshold)
    assert indices == [index for index in order if index in indices]


def test_wrong_decisions_come_first():
    labels, scores = [0] * 50 + [1] * 50, np.linspace(0, 1, 100).tolist()
    scores[3], scores[97] = 0.95, 0.05
    wrong = {3, 97}
    assert set(misleading_first(labels, scores, 0.5)[:2]) == wrong
    assert set(gallery_indices(labels, scores, 0.5, limit=10, seed=0)[:2]) == wrong


def area(figure):
    """What a figure's curve, its first line, encloses with the x axis."""
    x, y = figure.axes[0].lines[0].get_data()
    return float(np.trapezoid(y, x))


def test_curves_enclose_the_area_that_the_metrics_name():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    scores = np.round(rng.random(100) + 0.4 * labels, 2)
    roc, pr = roc_figure(labels, scores, None), precision_recall_figure(labels, scores, None)
    assert area(roc) == pytest.approx(roc_auc_score(labels, scores))
    assert area(pr) == pytest.approx(average_precision_score(labels, scores))
    assert f"AUROC {roc_auc_score(labels, scores):.3f}" in chart_svg(roc, "ROC curve")


def test_curves_of_many_images_stay_small():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 20_000), rng.random(20_000)
    for draw in (roc_figure, precision_recall_figure):
        figure = draw(labels, scores, None)
        paths = re.findall(r' d="[^"]*"', chart_svg(figure, "curve"))
        assert max(len(path) for path in paths) < 10_000
        assert figure.axes[0].lines[0].get_xdata()[-1] == 1


@pytest.mark.parametrize("scores", [[0.5], [0.0], [3.0, 3.0 + 1e-15], [-1e-9, 1e9], [1e-9, 2e-9]])
@pytest.mark.parametrize("threshold", [None, 0.5, -70.0])
def test_histograms_lie_inside_their_axes(scores, threshold):
    axes = histogram_figure(scores, [0] * len(scores), threshold).axes[0]
    (area,) = axes.patches
    assert area.get_data().values.sum() == len(scores)
    points = [area.get_path().vertices, *(line.get_xydata() for line in axes.lines)]
    # In shares of the axes; ticks may miss the last digits of the scores.
    shares = axes.transLimits.transform(np.concatenate(points)).round(3)
    assert shares.min() >= 0
    assert shares.max() <= 1


def test_charts_take_the_colours_and_the_font_of_their_page():
    drawing = chart_svg(histogram_figure([0.1, 0.9], [0, 1], 0.5), "Image scores")
    assert not re.search(r"#[0-9a-f]{6}|font-family", drawing)
    assert {"var(--normal)", "var(--anomalous)"} < set(re.findall(r"var\(--\w+\)", drawing))


def test_maps_of_all_images_share_one_colour_scale():
    image = np.full((1, 4, 3), 100, np.uint8)
    shown = overlay(image, np.array([[-5.0, 0.2, 1.0, 7.0]], np.float32), COLOURS)
    assert np.array_equal(shown[0, :2], image[0, :2])
    assert np.array_equal(shown[0, 2], shown[0, 3])
    assert not np.array_equal(shown[0, 2], image[0, 2])


def test_pictures_show_their_image():
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 10:50] = 200
    kind, _, content = picture(pixels).partition(",")
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert kind == "data:image/jpeg;base64"
    assert np.abs(decoded.astype(int) - pixels).mean() < 3


def test_masks_are_outlined():
    mask = np.zeros((32, 32), dtype=bool)
    assert mask_path(mask) == ""
    mask[4:9, 2:12] = True
    numbers = np.array(re.findall(r"[\d.]+", mask_path(mask)), dtype=float).reshape(-1, 2)
    assert numbers.min(axis=0).tolist() == [2.5, 4.5]
    assert numbers.max(axis=0).tolist() == [11.5, 8.5]
    mask[6, 6] = False
    assert mask_path(mask).count("M") == 2
