"""What a report shows: which cases, charts of their scores, maps and outlines of regions."""

import base64
import io
import re
from itertools import chain

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.evaluate.calibration_file import ColourScale
from engine.evaluate.cases import chosen_cases, worst_first
from engine.report.charts import chart_svg, histogram_figure, precision_recall_figure, roc_figure
from engine.report.pictures import map_layer, outline_path, overlay, picture, plot_cases
from tests.engine.report.conftest import COLOURS, make_case, make_run, noise
from utils.plots import COLOUR_MAP

SCORED = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(
    scored=SCORED,
    threshold=st.none() | st.floats(0, 1),
    limit=st.integers(0, 70),
    part=st.integers(3, 5),
)
def test_as_many_different_cases_are_chosen_as_may_be(scored, threshold, limit, part):
    labels, scores = zip(*scored, strict=True)
    order = worst_first(labels, scores, threshold)
    chosen = chosen_cases(order, labels, limit=limit, part=part, seed=0)
    indices = [*chain(*chosen.values())]
    assert len(indices) == len(set(indices)) == min(limit, len(labels))
    assert chosen["worst"] == [index for index in order if index in chosen["worst"]]
    assert len(chosen["best"]) == len(chosen["random"]) == min(limit, len(labels)) // part


def test_worst_cases_are_those_on_the_wrong_side():
    labels = [0, 0, 0, 1, 1, 1]
    order = worst_first(labels, [1.0, 2.0, 9.0, 8.0, 0.5, 7.0], None)
    assert set(order[:2]) == {2, 4}
    chosen = chosen_cases(order, labels, limit=6, part=3, seed=0)
    assert set(chosen["worst"]) == {2, 4}
    assert set(chosen["best"]) == {3, 0}


def test_wrong_decisions_come_first():
    labels, scores = [0] * 50 + [1] * 50, np.linspace(0, 1, 100).tolist()
    scores[3], scores[97] = 0.95, 0.05
    order = worst_first(labels, scores, 0.5)
    assert set(order[:2]) == {3, 97}
    assert set(chosen_cases(order, labels, limit=10, part=5, seed=0)["worst"][:2]) == {3, 97}


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


def test_curves_mark_the_threshold():
    labels, scores = [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]
    confusion = {"specificity": 0.75, "sensitivity": 0.5, "precision": 0.625}
    roc = roc_figure(labels, scores, confusion).axes[0].lines[-1]
    pr = precision_recall_figure(labels, scores, confusion).axes[0].lines[-1]
    assert roc.get_xydata().tolist() == [[0.25, 0.5]]
    assert pr.get_xydata().tolist() == [[0.5, 0.625]]
    none_called = precision_recall_figure(labels, scores, confusion | {"precision": None})
    assert len(none_called.axes[0].lines) == 2


def test_curves_of_many_images_stay_small():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 20_000), rng.random(20_000)
    for draw in (roc_figure, precision_recall_figure):
        figure = draw(labels, scores, None)
        paths = re.findall(r' d="[^"]*"', chart_svg(figure, "curve"))
        assert max(len(path) for path in paths) < 10_000
        assert figure.axes[0].lines[0].get_xdata()[-1] == 1


@pytest.mark.parametrize("scores", [[0.5], [0.0], [3.0, 3.0 + 1e-6], [-1e-9, 1e9], [1e-9, 2e-9]])
@pytest.mark.parametrize("threshold", [None, 0.5, -70.0])
def test_histograms_lie_inside_their_axes(scores, threshold):
    axes = histogram_figure(scores, [0] * len(scores), threshold).axes[0]
    (bars,) = axes.patches
    assert bars.get_data().values.sum() == len(scores)
    points = [bars.get_path().vertices, *(line.get_xydata() for line in axes.lines)]
    # In shares of the axes; ticks may miss the last digits of the scores.
    shares = axes.transLimits.transform(np.concatenate(points)).round(3)
    assert shares.min() >= 0
    assert shares.max() <= 1


def test_charts_take_the_colours_and_the_font_of_their_page():
    drawing = chart_svg(histogram_figure([0.1, 0.9], [0, 1], 0.5), "Image scores")
    assert not re.search(r"#[0-9a-f]{6}|font-family", drawing)
    assert {"var(--normal)", "var(--anomalous)"} < set(re.findall(r"var\(--\w+\)", drawing))


# Linear sRGB as people without one kind of cones see it (Viénot et al. 1999, by Machado's rows).
DEUTERANOPIA = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
PROTANOPIA = [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]


@pytest.mark.parametrize("seen_as", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_a_higher_score_is_brighter_in_grey_and_to_the_colour_blind(seen_as):
    colours = mpl.colormaps[COLOUR_MAP](np.linspace(0, 1, 64))[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = (linear @ np.transpose(seen_as)).clip(0, 1) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()
    assert luminance[0] < 0.01
    assert luminance[-1] > 0.9


def test_maps_of_all_images_share_one_colour_scale():
    image = np.full((1, 4, 3), 100, np.uint8)
    shown = overlay(image, np.array([[-5.0, 0.2, 1.0, 7.0]], np.float32), COLOURS)
    assert np.array_equal(shown[0, :2], image[0, :2])
    assert np.array_equal(shown[0, 2], shown[0, 3])
    assert not np.array_equal(shown[0, 2], image[0, 2])


def test_a_map_over_black_has_the_colours_of_the_scale():
    shares = np.linspace(0.05, 1, 20, dtype=np.float32)
    layer = map_layer((COLOURS.low + shares * (COLOURS.high - COLOURS.low))[None], COLOURS)[0] / 255
    expected = mpl.colormaps[COLOUR_MAP](shares)[:, :3]
    assert np.abs(layer[:, :3] * layer[:, 3:] - expected).max() < 0.01


def test_overlays_outline_what_lies_above_a_threshold():
    image, anomaly_map = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32), np.float32)
    anomaly_map[8:24, 8:24] = 0.15
    plain = overlay(image, anomaly_map, COLOURS)
    lined = overlay(image, anomaly_map, COLOURS, 0.1)
    assert (lined[8, 8:24] == 255).all()
    assert np.array_equal(lined[14:18, 14:18], plain[14:18, 14:18])
    assert np.array_equal(overlay(image, anomaly_map, COLOURS, 0.2), plain)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))  # as some TIFF files hold colours
    assert np.array_equal(overlay(planes.transpose(1, 2, 0), anomaly_map, COLOURS, 0.1), lined)


@pytest.mark.parametrize("most_bytes", [22_000, 7_000])
def test_a_smooth_map_stays_smooth_however_small_its_file_is(most_bytes):
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.random((14, 14), np.float32), (256, 256), interpolation=cv2.INTER_CUBIC)
    layer = map_layer(smooth, ColourScale(0, 1, ""))
    uri = picture(layer, 256, most_bytes)
    content = base64.b64decode(uri.partition(",")[2])
    assert len(content) <= most_bytes
    image = Image.open(io.BytesIO(content))
    assert len(np.unique(np.asarray(image)[..., 3])) > 100
    shown = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR))[..., 3]
    assert np.abs(shown.astype(float) - layer[..., 3]).mean() < 6


@pytest.mark.parametrize("pixel_threshold", [None, 0.5])
@pytest.mark.parametrize("masks", [True, False])
def test_cases_of_any_kind_are_drawn(tmp_path, masks, pixel_threshold):
    split = make_run(masks=masks).split
    cases = {"worst": [make_case(split, 0, 16), make_case(split, 3, 16)], "best": []}
    plot_cases(cases, COLOURS, tmp_path / "cases.png", pixel_threshold=pixel_threshold)
    assert Image.open(tmp_path / "cases.png").size[0] > 500


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_show_their_image(channels):
    pixels = np.zeros((40, 60, channels), np.uint8)
    pixels[10:30, 10:50] = 200
    kind, _, content = picture(pixels).partition(",")
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert kind == "data:image/webp;base64"
    assert decoded.shape == pixels.shape
    assert np.abs(decoded[10:30, 10:50].astype(int) - pixels[10:30, 10:50]).mean() < 3


def test_a_picture_of_pure_noise_stays_below_its_share():
    # 18 MB leave two for masks, texts and curves.
    for size, channels in ((224, 3), (1024, 3), (224, 4), (1024, 4)):
        assert len(picture(noise(0, size, channels))) * 3 * 200 < 18e6
    assert len(outline_path(noise(0, 224, 1)[..., 0] > 127)) <= 4000


def test_regions_are_outlined():
    mask = np.zeros((32, 32), dtype=bool)
    assert outline_path(mask) == ""
    mask[4:9, 2:12] = True
    numbers = np.array(re.findall(r"[\d.]+", outline_path(mask)), dtype=float).reshape(-1, 2)
    assert numbers.min(axis=0).tolist() == [2.5, 4.5]
    assert numbers.max(axis=0).tolist() == [11.5, 8.5]
    mask[6, 6] = False
    assert outline_path(mask).count("M") == 2
