"""Reports in a real browser: they render, filter, sort and search, and run no one else's script."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.evaluate.calibration import Calibration, ColourScale
from engine.report.charts import chart_svg, histogram_figure, roc_figure
from engine.report.pages import PredictedImage, write_prediction_report
from engine.report.pictures import mask_path, picture
from engine.report.render import VERDICTS, render
from utils.config.load import load_config

GOLDEN = Path(__file__).parents[2] / "golden"
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=5000",
)
PAYLOADS = (
    "<script>window.hit = 1</script>.png",
    "<img src=x onerror='window.hit = 1'>.png",
    '" onmouseover="window.hit = 1" onload=\'window.hit = 1\' x=".png',
    "</h3></style><svg onload=window.hit=1>\n&.png",
)
VISIBLE = """
const cards = () => [...document.querySelectorAll(".card")].filter((card) => !card.hidden);
const scores = () => cards().map((card) => Number(card.dataset.score));
const press = (group) => document.querySelector(`button[data-group="${group}"]`).click();
const set = (id, value, event) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event(event, {bubbles: true}));
};
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")


@dataclass(frozen=True)
class Visit:
    """What a script found on a page, and what the browser complained about."""

    found: dict
    console: list[str]


@pytest.fixture
def visit(tmp_path):
    """Opens a page in a browser of its own and evaluates an object's fields there."""

    def open_page(page: str, fields: str, *, guarded: bool = True) -> Visit:
        script = (
            VISIBLE
            + "const result = document.createElement('pre'); result.id = 'result';"
            + f"result.textContent = JSON.stringify((() => {fields})());"
            + "document.body.append(result);"
        )
        file = tmp_path / "page.html"
        file.write_text(with_script(page, script, guarded=guarded), encoding="utf-8")
        return run_browser(file, tmp_path / "profile")

    return open_page


def with_script(page: str, script: str, *, guarded: bool) -> str:
    """A page with one more script, let in by the page's policy or, unguarded, by having none."""
    if guarded:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    else:
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    return page.replace("</body>", f"<script>{script}</script></body>")


def run_browser(file: Path, profile: Path) -> Visit:
    options = ("--window-size=1400,900", f"--user-data-dir={profile}", "--dump-dom")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, *options, file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    result = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert result, console
    return Visit(json.loads(html.unescape(result[1])), console)


def make_page(names=PAYLOADS) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    uri, path = picture(pixels), mask_path(pixels[..., 0] > 200)
    cards = [
        {
            "name": name,
            "score": score,
            "label": "anomalous" if verdict in ("tp", "fn") else "normal",
            "verdict": verdict,
            "group": verdict,
            "size": (32, 32),
            "image": uri,
            "reconstruction": uri,
            "overlay": uri,
            "mask_path": path,
        }
        for name, score, verdict in zip(
            names, (0.9, 0.2, 1.5e-3, 7.25), ("fp", "fn", "tn", "tp"), strict=True
        )
    ]
    labels, scores = [0, 1, 0, 1], [0.9, 0.2, 1.5e-3, 7.25]
    charts = {
        "ROC curve": roc_figure(labels, scores, {"specificity": 0.5, "sensitivity": 0.5}),
        "Image scores": histogram_figure(scores, labels, 0.5),
    }
    return render(
        "test.html.j2",
        experiment=PAYLOADS[0],
        counts=[("images", 4)],
        threshold=0.5,
        threshold_source=PAYLOADS[1],
        charts=[(title, chart_svg(figure, title)) for title, figure in charts.items()],
        charts_missing="",
        colours=ColourScale(0.0, 1.0, PAYLOADS[2]),
        colour_strip=uri,
        cards=cards,
        cards_note="Showing 4 of 4 images.",
        config_text="\n".join(("[TESTING]", *PAYLOADS, "KEY = " + "x" * 500)),
        setup=[(PAYLOADS[3], PAYLOADS[3])],
        metrics=[],
        metrics_note="",
        confusion=None,
    )


def test_the_page_renders_without_complaint(visit):
    seen = visit(
        make_page(),
        """({
          cards: cards().length,
          pictures: [...document.images].every((image) => image.complete && image.naturalWidth),
          controls: !document.getElementById("controls").hidden,
          shown: document.getElementById("shown").textContent,
          loaded: performance.getEntriesByType("resource")
            .map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
        })""",
    )
    assert seen.found == {
        "cards": 4,
        "pictures": True,
        "controls": True,
        "shown": "4 of 4 shown",
        "loaded": [],
    }
    assert not seen.console


def test_filters_choose_by_verdict(visit):
    seen = visit(
        make_page(),
        """{
          const found = {};
          for (const button of document.querySelectorAll("button")) {
            button.click();
            found[button.dataset.group || "all"] =
              [button.textContent.trim(), scores(), button.getAttribute("aria-pressed")];
          }
          found.pressed = document.querySelectorAll("[aria-pressed=true]").length;
          return found;
        }""",
    )
    assert seen.found == {
        "all": ["All 4", [0.9, 0.2, 0.0015, 7.25], "true"],
        "fn": [f"{VERDICTS['fn']} 1", [0.2], "true"],
        "fp": [f"{VERDICTS['fp']} 1", [0.9], "true"],
        "tp": [f"{VERDICTS['tp']} 1", [7.25], "true"],
        "tn": [f"{VERDICTS['tn']} 1", [0.0015], "true"],
        "pressed": 1,
    }
    assert not seen.console


def test_search_and_filter_go_together(visit):
    page = make_page(["brain_1.png", "Brain_22.png", "liver_1.png", 'a"<b>.png'])
    seen = visit(
        page,
        """{
          const found = {};
          const search = (text) => {
            set("search", text, "input");
            return [scores(), document.getElementById("nothing").hidden];
          };
          found.brain = search("bRAIN");
          found.markup = search('"<b>');
          found.none = search("(.*[");
          press("fn");
          found.both = search("brain");
          found.shown = document.getElementById("shown").textContent;
          return found;
        }""",
    )
    assert seen.found == {
        "brain": [[0.9, 0.2], True],
        "markup": [[7.25], True],
        "none": [[], False],
        "both": [[0.2], True],
        "shown": "1 of 4 shown",
    }
    assert not seen.console


def test_orders(visit):
    seen = visit(
        make_page(),
        """{
          const found = {};
          for (const order of ["ascending", "descending", "rank"]) {
            set("order", order, "change");
            found[order] = scores();
          }
          return found;
        }""",
    )
    assert seen.found == {
        "ascending": [0.0015, 0.2, 0.9, 7.25],
        "descending": [7.25, 0.9, 0.2, 0.0015],
        "rank": [0.9, 0.2, 0.0015, 7.25],
    }


def test_outlines_and_size_can_be_switched(visit):
    seen = visit(
        make_page(),
        """{
          const mask = document.querySelector(".mask");
          const picture = document.querySelector(".picture");
          const before = [getComputedStyle(mask).display, picture.clientWidth];
          document.getElementById("outlines").click();
          document.getElementById("large").click();
          const after = [getComputedStyle(mask).display, picture.clientWidth];
          return {outline: [before[0], after[0]], larger: after[1] > before[1]};
        }""",
    )
    assert seen.found["outline"][0] != "none"
    assert seen.found["outline"][1] == "none"
    assert seen.found["larger"]


@pytest.mark.parametrize("guarded", [True, False], ids=["with policy", "without policy"])
def test_scripts_in_names_and_values_do_not_run(visit, guarded):
    seen = visit(
        make_page(),
        """({
          hit: window.hit ?? null,
          scripts: document.scripts.length,
          names: cards().map((card) => card.querySelector("h3").textContent),
          strangers: document.querySelectorAll("h3 *, pre *, [onload], [onerror]").length,
          title: document.title,
        })""",
        guarded=guarded,
    )
    assert seen.found == {
        "hit": None,
        "scripts": 2,
        "names": [name.replace("\n", "\\n") for name in PAYLOADS],
        "strangers": 0,
        "title": f"{PAYLOADS[0]} – Test report",
    }
    assert not seen.console


def test_the_policy_stops_what_got_past_the_escaping(visit):
    page = make_page().replace("</header>", "<script>window.hit = 1</script></header>")
    seen = visit(page, "({hit: window.hit ?? null})")
    assert seen.found == {"hit": None}
    assert any("Content Security Policy" in line for line in seen.console)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_scrolls_sideways(visit, width):
    # A window has a least width, a frame has none; styles go by the frame's width.
    page = html.escape(make_page(["x" * 300 + ".png", *PAYLOADS[:3]]))
    frame = f'<iframe width="{width}" height="900" frameborder="0" srcdoc="{page}"></iframe>'
    seen = visit(
        f"<body>{frame}</body>",
        """{
          const frame = document.querySelector("iframe");
          const measure = () => {
            const page = frame.contentDocument;
            page.querySelector("details").open = true;
            const content = page.documentElement.scrollWidth;
            const found = {inner: frame.contentWindow.innerWidth, content};
            document.getElementById("result").textContent = JSON.stringify(found);
          };
          frame.addEventListener("load", measure);
          return {};
        }""",
    )
    assert seen.found["inner"] == width
    assert seen.found["content"] <= width


def test_a_prediction_renders_and_filters(visit, tmp_path):
    scores = (0.1, 0.9, 0.7, 0.2)
    images = [
        PredictedImage(name, score, *np.full((2, 8, 8, 3), 90, np.uint8), np.eye(8, dtype="f4"))
        for name, score in zip(PAYLOADS, scores, strict=True)
    ]
    config = load_config(GOLDEN / "golden.ini", [f"EXPERIMENT_NAME={PAYLOADS[0]}"])
    colours = ColourScale(0.0, 1.0, "normal images")
    calibration = Calibration(0.5, "best F1", colours, PAYLOADS[1], 3, 3, "")
    unreadable = [(PAYLOADS[0], PAYLOADS[1])]
    path = tmp_path / "prediction.html"
    write_prediction_report(config, calibration, scores, images, unreadable, path)
    seen = visit(
        (tmp_path / "prediction.html").read_text(encoding="utf-8"),
        """{
          const all = scores();
          press("anomalous");
          return {all, anomalous: scores(), hit: window.hit ?? null};
        }""",
    )
    assert seen.found == {"all": [0.9, 0.7, 0.2, 0.1], "anomalous": [0.9, 0.7], "hit": None}
    assert not seen.console
