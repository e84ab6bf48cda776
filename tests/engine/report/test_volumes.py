"""What a report shows of volumes: which slices, their pictures, curves, and what is left out."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from engine.report.pictures import outline_path
from engine.report.volume_cards import volume_cards
from engine.report.volumes import (
    PICTURE_SIDE,
    SHOWN_SLICES,
    SHOWN_VOLUMES,
    ScoredVolume,
    evenly_chosen,
    slice_view,
)
from tests.engine.report.conftest import COLOURS, make_volume, noise
from tests.engine.report.test_report import HOSTILE, Document


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("count", [1, 64, 65, 200, 1000])
def test_slices_are_chosen_evenly(count):
    chosen = evenly_chosen(count)
    assert len(chosen) == len(set(chosen)) == min(count, SHOWN_SLICES - (count > SHOWN_SLICES))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = np.diff(chosen)
    assert count == 1 or gaps.max() - gaps.min() <= 1


def test_pictures_of_slices_are_small_and_show_their_slice():
    image, anomaly_map = np.zeros((600, 300), np.uint8), np.zeros((600, 300), np.float32)
    image[100:200, 30:90], anomaly_map[400:500, 30:90] = 200, 1
    view = slice_view(7, image, anomaly_map, COLOURS, 0.5, anomaly_map > 0)
    assert (view.number, view.size) == (7, (PICTURE_SIDE // 2, PICTURE_SIDE))
    shown, layer = decoded(view.image), decoded(view.map)
    assert shown.shape[:2] == layer.shape[:2] == view.size[::-1]
    assert shown[64, 26].tolist() == pytest.approx([200] * 3, abs=5)
    assert shown[192, 26].max() < 10
    assert layer[192, 26, 3] > 250
    assert layer[64, 26, 3] == 0
    corners = np.array(re.findall(r"[\d.]+", view.threshold_path), float).reshape(-1, 2)
    scale = PICTURE_SIDE / 600
    assert corners.min(axis=0) == pytest.approx([30 * scale, 400 * scale], abs=1)
    assert corners.max(axis=0) == pytest.approx([90 * scale, 500 * scale], abs=1)
    # A mask of few pixels does not vanish where the slice is shrunk.
    tiny = np.zeros((600, 300), bool)
    tiny[300, 100] = True
    assert slice_view(0, image, anomaly_map, COLOURS, None, tiny).mask_path


def test_volumes_of_pure_noise_stay_below_their_share():
    """Of ten volumes of 200 slices; the rest of 15 MB is for what else a report holds."""
    grey, mask = noise(0, 256, 1)[..., 0], noise(1, 256, 1)[..., 0] > 127
    view = slice_view(0, noise(0, 256), grey.astype(np.float32) / 255, COLOURS, 0.5, mask)
    texts = (view.image, view.map, 2 * view.mask_path, 2 * view.threshold_path)
    share = sum(map(len, texts)) + 600
    assert share * SHOWN_SLICES * SHOWN_VOLUMES < 14e6
    assert len(outline_path(grey > 127, 1200)) <= 1200


@pytest.fixture(params=["test", "prediction"])
def page_of(request, written, predicted):
    """Writes a report of either kind with volumes."""
    return written if request.param == "test" else predicted


def test_a_volume_starts_at_its_worst_slice(page_of):
    page = Document(page_of(pixel_threshold=0.5, volumes=[make_volume()]))
    (slider,) = (each for each in page.all("input") if each.get("aria-label") == "Slice")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "1")
    shown = [use["href"] for use in page.all("use") if "#slice-0-1" in use.get("href", "")]
    parts = ("image", "map", "image", "contour", "image", "map")
    assert shown == [f"#slice-0-1-{part}" for part in parts], "panels, then a thumbnail"
    assert "slice 1, score 0.7" in page.text
    assert "slice 0, lowest scores 0.1 to 0.7; dashed: threshold 0.5 slice 2, highest" in page.text


def test_links_have_a_target_and_pictures_a_text(page_of):
    volumes = [make_volume(), make_volume("b.nii"), ScoredVolume("c.nii", 0.1, 0)]
    document = Document(page_of(pixel_threshold=0.5, volumes=volumes))
    document.check_links()
    hidden = ("marks", "store")
    for each in document.all("svg"):
        named = each.get("aria-label") or each.get("aria-hidden") == "true"
        assert named or "data-position" in each or each.get("class") in hidden


def test_outlines_are_of_the_threshold_and_of_masks_where_there_are_any(written):
    with_masks, alone = Document(written(volumes=[make_volume(label=1)])), Document(written())
    assert len(with_masks.of_class("mask")) == len(alone.of_class("mask")) + 3
    assert len(with_masks.of_class("above")) == 3
    plain = written(volumes=[make_volume(pixel_threshold=None)], masks=False)
    assert "<figcaption>contour" not in plain


def test_other_volumes_are_listed_with_score_and_verdict(written):
    volumes = [
        make_volume("a.nii", label=1, predicted=0),
        ScoredVolume("b.nii", 0.25, 0, 0),
        ScoredVolume("c.nii", 0.125, 1, 0),
        ScoredVolume("d.nii", 0.1, None, 1),
    ]
    text = Document(written(volumes=volumes)).text
    assert "Shown are the 1 of 4 volumes" in text
    assert "a.nii anomalous score 0.7 False negative" in text
    assert "b.nii 0.25 normal True negative c.nii 0.125 normal False positive" in text
    assert "d.nii 0.1 anomalous No verdict" in text


def test_the_choice_of_slices_is_told(predicted):
    one, many = make_volume(scores=[0.1] * 64), make_volume(scores=[0.1] * 65)
    assert "At most" not in Document(predicted(volumes=[one])).text
    assert (
        "At most 64 evenly spaced slices per volume are shown"
        in Document(predicted(volumes=[many])).text
    )


def test_without_pictures_all_volumes_are_listed(predicted):
    text = Document(predicted(volumes=[ScoredVolume("a.nii", 0.75, 1)])).text
    assert "There are no pictures because REPORT_IMAGES is 0" in text
    assert "All volumes, highest score first Volume Score Verdict a.nii 0.75 Anomalous" in text
    assert "volumes 1 anomalous volumes 1 images 2" in text


def test_reports_without_volumes_do_not_speak_of_them(page):
    assert "olumes" not in Document(page).text


def test_hostile_names_of_volumes_stay_text(page_of):
    html = page_of(volumes=[make_volume(HOSTILE), ScoredVolume(HOSTILE, 0.1, 0)])
    assert html.count("<script") == 1
    assert "\u202e" not in html
    document = Document(html)
    assert not [a for _, attributes in document.elements for a in attributes if a.startswith("on")]


def test_slices_have_the_shape_that_they_have_in_space(predicted):
    volume = make_volume(extent=(50.0, 100.0))
    html = predicted(pixel_threshold=0.5, volumes=[volume])
    assert 'viewBox="0 0 256.0 128.0" role="img" aria-label="Image of the slice"' in html
    assert 'transform="scale(16 8)"' in html


def test_the_curve_has_all_scores_and_thumbnails_stand_for_equal_parts():
    scores = np.random.default_rng(0).random(200)
    (card,) = volume_cards([make_volume(scores=scores.tolist(), size=4)], 0.5)
    pictures = card["pictures"]
    points = np.array(re.findall(r"[\d.]+", pictures["curve"]), float).reshape(-1, 2)
    assert points[:, 0] == pytest.approx((np.arange(200) + 0.5) / 2, abs=0.01)
    share = (scores - scores.min()) / (scores.max() - scores.min())
    assert points[:, 1] == pytest.approx(92 - 84 * share, abs=0.01)
    at_threshold = 92 - 84 * (0.5 - scores.min()) / (scores.max() - scores.min())
    assert pictures["threshold_y"] == pytest.approx(at_threshold, abs=0.01)
    shown = [view.number for view, *_ in pictures["slices"]]
    assert shown[pictures["worst"]] == int(np.argmax(scores))
    for part, position in enumerate(pictures["thumbnails"]):
        mine = [number for number in shown if number * 8 // 200 == part]
        assert shown[position] == max(mine, key=lambda number: scores[number])


def test_equal_scores_have_a_flat_curve():
    (card,) = volume_cards([make_volume(scores=[0.5, 0.5])], 0.5)
    assert card["pictures"]["curve"] == "M25 92L75 92"
    assert card["pictures"]["threshold_y"] == 92


def test_a_threshold_of_ones_own_decides_in_the_report_too(predicted):
    page = Document(predicted(threshold=0.05))
    assert [card["data-group"] for card in page.of_class("card")] == ["anomalous"] * 2
    assert "called anomalous 2 called normal 0" in page.text
    assert "at a score of 0.05 or above. Set with --threshold" in page.text
