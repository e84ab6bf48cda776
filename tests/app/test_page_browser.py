"""The page in a real browser, served as run_app.py serves it."""

import os
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from app.server import running
from engine.prediction.predict import Output, predict
from engine.predictor import Predictor
from tests.app.conftest import free_port
from tests.conftest import needs_browser, read_csv
from tests.medical_files import write_nifti

# A machine under load takes its time.
PATIENCE = 120_000
OWN = ("127.0.0.1", "localhost", "::1")

pytestmark = [
    needs_browser,
    # Gradio counts its events with what pandas will drop.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.queueing"),
]


@pytest.fixture(scope="module")
def asked():
    """Hosts whose address this process asks for: the server must ask for none but its own."""
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        resolve = socket.getaddrinfo

        def noted(host: str, *arguments: object, **options: object) -> object:
            names.append(host)
            return resolve(host, *arguments, **options)

        patch.setattr(socket, "getaddrinfo", noted)
        yield names


@pytest.fixture(scope="module")
def address(predictor, asked):
    with running(predictor, "127.0.0.1", free_port()) as address:
        yield address


@pytest.fixture
def visit(browser, address):
    """Opens the page; no request may leave this machine, no script may fail."""
    expect.set_options(timeout=PATIENCE)
    hosts: set[str] = set()
    faults: list[str] = []
    contexts = []

    def opened(width: int = 1280, scheme: str = "light") -> Page:
        viewport = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
        page.on("pageerror", lambda error: faults.append(str(error)))
        # What Gradio says of our scripts; its own upload bar complains where an upload is quick.
        page.on("console", lambda said: said.text.startswith("Error ") and faults.append(said.text))
        page.goto(address)
        expect(page.locator("#upload input[type=file]")).to_be_attached()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert hosts - {""} == {"127.0.0.1"}
    assert faults == []


@pytest.fixture(scope="module")
def image(predictor):
    return min((predictor.settings.test_data_path / "Ungood/img").iterdir())


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    voxels = np.random.default_rng(0).integers(0, 255, (14, 10, 4)).astype(np.uint8)
    return write_nifti(tmp_path_factory.mktemp("volume") / "a.nii.gz", voxels)


def upload(page: Page, *files: Path) -> None:
    page.set_input_files("#upload input[type=file]", [str(file) for file in files])


def part(page: Page, name: str):
    return page.locator(f'#viewer [data-part="{name}"]')


def move(page: Page, slider: str, value: float) -> None:
    part(page, slider).evaluate(
        "(slider, value) => { slider.value = value;"
        " slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        value,
    )


def no_sideways_scroll(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_picture_has_the_score_of_run_predict(visit, config, image, tmp_path):
    page = visit()
    upload(page, image)
    predict(config, [image], Output(tmp_path / "out"))
    (row,) = read_csv(tmp_path / "out/scores.csv")
    expect(part(page, "score")).to_have_text(f"{float(row['score']):.6g}")
    expect(part(page, "name")).to_have_text(image.name)
    expect(part(page, "verdict")).to_have_text("anomalous" if row["predicted"] == "1" else "normal")
    with page.expect_download() as download:
        part(page, "map").click()
    assert download.value.suggested_filename == f"{image.stem}_map.npy"
    expected = np.load(tmp_path / "out" / row["map"])
    assert np.array_equal(np.load(download.value.path()), expected)
    with page.expect_download() as download:
        part(page, "save").click()
    assert download.value.suggested_filename == f"{image.stem}_map.png"


def test_sliders_change_what_is_shown_and_call_no_model(visit, predictor, image, monkeypatch):
    page = visit()
    upload(page, image)
    expect(part(page, "score")).to_be_visible()
    monkeypatch.setattr(Predictor, "score", None)
    score = float(part(page, "score").inner_text())
    learnt = part(page, "threshold-text").inner_text()
    assert learnt == f"{predictor.threshold:.6g}"
    expect(part(page, "learnt")).to_be_hidden()
    for threshold, verdict in ((score * 1.01, "normal"), (score * 0.99, "anomalous")):
        part(page, "threshold").evaluate("slider => { slider.min = 0; slider.max = 1e6; }")
        move(page, "threshold", threshold)
        expect(part(page, "verdict")).to_have_text(verdict)
    part(page, "learnt").click()
    expect(part(page, "threshold-text")).to_have_text(learnt)
    move(page, "opacity", 0.25)
    expect(part(page, "layer")).to_have_css("opacity", "0.25")
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
    drawn += ".data.filter((_, index) => index % 4 === 3).some(Boolean)"
    middle = part(page, "pixel").evaluate("slider => (Number(slider.min) + Number(slider.max)) / 2")
    move(page, "pixel", middle)
    assert part(page, "outline").evaluate(drawn)
    move(page, "pixel", 1e9)
    assert not part(page, "outline").evaluate(drawn)


def test_a_volume_has_a_slider_of_its_slices(visit, predictor, volume):
    page = visit()
    upload(page, volume)
    expected = predictor.volume(volume)
    expect(part(page, "volume-score")).to_have_text(f"{expected.score:.6g}")
    expect(part(page, "score-name")).to_have_text(f"Slice {expected.worst_slice}")
    shown = page.locator("#viewer img[data-picture=image]").first
    for number in range(4):
        move(page, "slice", number)
        expect(part(page, "score")).to_have_text(f"{expected.slices[number]:.6g}")
        expect(part(page, "score-name")).to_have_text(f"Slice {number}")
    assert shown.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [14, 10]


def test_what_is_unusual_about_a_file_is_on_the_page(visit, image, tmp_path):
    page = visit()
    upload(page, write_nifti(tmp_path / "a.nii", np.ones((14, 10, 4, 2), np.uint8)))
    expect(part(page, "notes")).to_contain_text("a.nii has 2 volumes")
    upload(page, image)
    expect(part(page, "notes")).to_be_hidden()


def test_a_bad_file_is_told_and_the_next_one_is_scored(visit, image, tmp_path):
    page = visit()
    (tmp_path / "bad.dcm").write_bytes(b"nothing")
    upload(page, tmp_path / "bad.dcm")
    expect(part(page, "error")).to_contain_text("bad.dcm: cannot be read as DICOM")
    expect(part(page, "result")).to_be_hidden()
    upload(page, image)
    expect(part(page, "result")).to_be_visible()
    expect(part(page, "error")).to_be_hidden()


def test_an_example_is_one_click(visit):
    page = visit()
    page.get_by_role("button", name="lesion 1").click()
    expect(part(page, "name")).to_contain_text("00000_")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction(visit, volume, scheme):
    page = visit(390, scheme)
    assert no_sideways_scroll(page)
    expect(page.get_by_text("Not a medical device")).to_be_in_viewport()
    upload(page, volume)
    expect(part(page, "result")).to_be_visible()
    assert no_sideways_scroll(page)


def test_closing_the_page_removes_what_it_held(visit, image):
    page = visit()
    upload(page, image)
    expect(part(page, "result")).to_be_visible()
    folder = Path(part(page, "map").get_attribute("href").partition("file=")[2]).parent
    assert folder.is_dir()
    page.close()
    deadline = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_server_asks_for_no_other_host(visit, asked):
    visit()
    assert set(asked) <= {*OWN, None}


def test_other_files_of_the_machine_are_not_served(visit, tmp_path):
    page = visit()
    (tmp_path / "secret.png").write_bytes(b"secret")
    address = f"{page.url}gradio_api/file={tmp_path / 'secret.png'}"
    assert page.request.get(address).status in (403, 404)
    inside = Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"])) / "map.npy"
    inside.write_bytes(b"map")
    assert page.request.get(f"{page.url}gradio_api/file={inside}").status == 200
