"""Reports: complete in themselves, deaf to hostile names, small, plain about what is missing."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.testing.test import test as run_test
from tests.engine.report.conftest import COLOURS, CONFIG
from utils.config.load import load_config

HOSTILE = "<script>alert(1)</script>\"'&\n\u202e\udc80.png"
AUROC = "Image AUROC area under the ROC curve: 0.5 is chance, 1 is perfect"


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

    def check_links(self):
        """All that is linked to is there, once."""
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        links = self.all("a") + self.all("use")
        targets = {link.get("href") or link["xlink:href"] for link in links}
        assert {target[1:] for target in targets} <= set(ids)

    @property
    def text(self):
        shown = (data for tag, data in self.texts if tag not in ("script", "style"))
        return " ".join(" ".join(shown).split())


def test_a_real_test_run_has_a_report(tmp_path, monkeypatch):
    shutil.copytree(CONFIG.parent, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    run = run_test(load_config("golden.ini", [f"RESULTS_PATH={tmp_path / 'results'}"]))
    page = Document((tmp_path / "results" / "report.html").read_text(encoding="utf-8"))
    assert len(page.of_class("card")) == 4
    assert len(page.of_class("mask")) == 2
    assert f"{run.metrics['pixel_aupro']:.4f}" in page.text
    assert "VAL_DATA_PATH is the test set itself" in page.text
    low, high = run.metrics["intervals_95"]["image_auroc"]
    first_screen = page.text[: page.text.index("not a medical device")]
    assert "Q-Former Autoencoder on test_vit" in first_screen
    assert f"Image AUROC {run.metrics['image_auroc']:.3f} 95 %: {low:.3f} – {high:.3f}" in (
        first_screen
    )
    assert f"Pixel AUROC {run.metrics['pixel_auroc']:.3f}" in first_screen
    assert f"Pixel AUPRO {run.metrics['pixel_aupro']:.3f}" in first_screen
    assert "Worst case" in first_screen
    assert "Best case" in first_screen


def test_the_report_says_all_that_was_measured(written):
    text = Document(written(unit="patient")).text
    assert "golden" in text
    assert "not a medical device" in text
    assert "6 (3 normal, 3 anomalous, of 3 patients, 2 more left out by MAX_SAMPLES_TEST)" in text
    assert "Folder data/test" in text
    assert "resampling the test set's patients" in text
    assert f"{AUROC} {8 / 9:.4f}" in text
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


def test_examples_are_the_worst_and_the_best_case(written):
    names = [f"{name}.png" for name in "abcdef"]
    links = [a for a in Document(written(names=names)).texts if a[0] == "a" and ".png" in a[1]]
    assert links == [("a", "d.png"), ("a", "f.png")]
    # The one anomalous image is missed: the worst case, and not the best one too.
    html = written(names=names[:3], labels=[1, 0, 0], scores=[0.1, 0.3, 0.2])
    links = [a for a in Document(html).texts if a[0] == "a" and ".png" in a[1]]
    assert links == [("a", "a.png"), ("a", "c.png")]


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
    assert f"Image of {shown}" in [drawing.get("aria-label") for drawing in page.all("svg")]
    assert f"EXPERIMENT_NAME = {HOSTILE.splitlines()[0]}" in page.text


def test_hostile_predictions_stay_text(predicted):
    html = predicted(
        f"EXPERIMENT_NAME={HOSTILE.splitlines()[0]}",
        names=[HOSTILE, "b.png"],
        val_data_path=f"{HOSTILE}\0",
        colours=replace(COLOURS, source=HOSTILE),
        errors=[(HOSTILE, HOSTILE)],
    )
    assert html.count("<script") == 1
    assert "\0" not in html
    assert "\u202e" not in html


def test_nothing_is_loaded_from_elsewhere(page):
    for _, attributes in Document(page).elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", page)


def test_internal_links_have_a_target_and_pictures_a_text(page):
    document = Document(page)
    document.check_links()
    pictures = [each for each in document.all("svg") if each.get("aria-hidden") != "true"]
    assert all(each["aria-label"] for each in pictures)


def many(count):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count).tolist()
    return {"labels": labels, "scores": (rng.random(count) + 0.3 * np.array(labels)).tolist()}


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_200_images_of_pure_noise_stay_below_20_megabytes(written, count):
    assert len(written(size=224, **many(count)).encode()) < 20e6 * count / 200


def test_the_gallery_is_bounded_and_says_so(written):
    page = Document(written("REPORT_IMAGES=20", **many(50)))
    assert len(page.of_class("card")) == 20
    assert "Showing 20 of 50 images." in page.text
    assert "4 of the best and 4 chosen at random" in page.text
    assert re.search(r"\d+ of \d+ wrong decisions are among them", page.text)


def test_no_gallery_where_none_is_asked_for(written):
    page = Document(written("REPORT_IMAGES=0"))
    assert not page.of_class("card")
    assert "REPORT_IMAGES is 0" in page.text
    assert page.of_class("chart")


def test_without_masks_pixel_metrics_are_not_defined(written):
    page = Document(written(masks=False))
    assert f"{AUROC.replace('Image', 'Pixel')} not defined" in page.text
    assert "has no masks" in page.text
    assert "Image sensitivity at 95 % specificity" in page.text.partition("Research")[0]
    assert not page.of_class("mask")


def test_without_a_threshold_labels_are_the_filter(written):
    page = Document(written(threshold=None, no_threshold="data/gone is not a folder"))
    assert "There is no threshold: data/gone is not a folder." in page.text
    assert "There is no confusion matrix" in page.text
    groups = [each["value"] for each in page.all("input") if each.get("name") == "group"]
    assert groups == ["", "anomalous", "normal"]
    # In six cards and two examples.
    assert page.text.count("No verdict") == 8


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_a_report(written, label):
    page = Document(written(labels=[label] * 6))
    missing = "anomalous" if label == 0 else "normal"
    assert f"curves need both classes, but no image is {missing}" in page.text
    assert f"{AUROC} not defined" in page.text
    assert len(page.of_class("chart")) == 1
    assert len(page.of_class("card")) == 6


def test_a_pixel_threshold_is_outlined_and_named(written, predicted):
    for page in (written(pixel_threshold=0.625), predicted(pixel_threshold=0.625)):
        document = Document(page)
        assert len(document.of_class("above")) == len(document.of_class("card"))
        assert "pixel score of 0.625 or above" in document.text
    assert not Document(written()).of_class("above")


def test_a_prediction_has_no_labels_and_no_masks(predicted):
    page = Document(predicted())
    assert [card["data-group"] for card in page.of_class("card")] == ["anomalous", "normal"]
    first_screen = page.text[: page.text.index("not a medical device")]
    for shown in ("images 2", "called anomalous 1", "errors 1", "on test_vit", "Highest"):
        assert shown in first_screen
    assert "bad.png: is empty" in page.text
    assert "Metrics" not in page.text
    assert "misleading" not in page.text
    assert not page.of_class("mask")


def test_reports_are_replaced_as_a_whole(predicted, tmp_path):
    for _ in range(2):
        predicted()
        assert [path.name for path in tmp_path.iterdir()] == ["prediction.html"]


def test_a_prediction_of_unreadable_files_alone_has_a_report(predicted):
    assert "No image was scored." in Document(predicted(names=[], scores=[])).text
