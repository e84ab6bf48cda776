"""Reports in a real browser: they render, filter, sort and search, and run no one else's script."""

import pytest

from engine.evaluate.calibration_file import ColourScale
from engine.report.render import VERDICTS
from tests.conftest import needs_browser

PAYLOADS = (
    "<script>window.hit = 1</script>.png",
    "<img src=x onerror='window.hit = 1'>.png",
    '" onmouseover="window.hit = 1" onload=\'window.hit = 1\' x=".png',
    "</h3></style><svg onload=window.hit=1>\n&.png",
)

pytestmark = needs_browser


@pytest.fixture
def make_page(written):
    """A report of one decision of each kind, with other people's text wherever it may stand."""

    def make(names=PAYLOADS) -> str:
        return written(
            f"EXPERIMENT_NAME={PAYLOADS[0]}",
            f"TRAINING.VAL_DATA_PATH={PAYLOADS[1]}",
            names=names,
            labels=(0, 1, 0, 1),
            scores=(0.9, 0.2, 1.5e-3, 7.25),
            colours=ColourScale(0.0, 1.0, PAYLOADS[2]),
        )

    return make


# What a script finds on the page.
SEEN = {
    "renders": (
        """
          const pictures = [...document.querySelectorAll("image")].map((each) => {
            const image = new Image();
            image.src = each.getAttribute("href");
            return image.decode().then(() => image.naturalWidth);
          });
          return {
            cards: cards().length,
            pictures: await Promise.all(pictures),
            controls: !document.getElementById("controls").hidden,
            shown: document.getElementById("shown").textContent,
            loaded: performance.getEntriesByType("resource")
              .map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
          };
        """,
        {"cards": 4, "pictures": [16] * 12, "controls": True, "shown": "1 of 4", "loaded": []},
    ),
    "filters by verdict": (
        """
          const found = {};
          for (const button of document.querySelectorAll("[name=group]")) {
            button.click();
            found[button.value || "all"] = [button.parentNode.textContent.trim(), scores()];
          }
          found.pressed = document.querySelectorAll("[name=group]:checked").length;
          return found;
        """,
        {
            "all": ["All 4", [0.9, 0.2, 0.0015, 7.25]],
            "fn": [f"{VERDICTS['fn']} 1", [0.2]],
            "fp": [f"{VERDICTS['fp']} 1", [0.9]],
            "tp": [f"{VERDICTS['tp']} 1", [7.25]],
            "tn": [f"{VERDICTS['tn']} 1", [0.0015]],
            "pressed": 1,
        },
    ),
    "sorts": (
        """
          const found = {};
          for (const order of ["ascending", "descending", "rank"]) {
            set("order", order, "input");
            found[order] = scores();
          }
          return found;
        """,
        {
            "ascending": [0.0015, 0.2, 0.9, 7.25],
            "descending": [7.25, 0.9, 0.2, 0.0015],
            "rank": [0.9, 0.2, 0.0015, 7.25],
        },
    ),
    "arrow keys step through what is shown": (
        """
          const current = () => Number(document.querySelector(".current").dataset.score);
          const key = (name, target = document.body) => {
            target.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
            return current();
          };
          set("order", "ascending", "input");
          const steps = ["ArrowLeft", "ArrowRight", "ArrowRight", "ArrowLeft"].map((k) => key(k));
          const typing = key("ArrowRight", document.getElementById("search"));
          document.getElementById("next").click();
          return {steps, typing, next: current(), shown: document.getElementById("shown").value};
        """,
        {"steps": [0.0015, 0.2, 0.9, 0.2], "typing": 0.2, "next": 0.9, "shown": "3 of 4"},
    ),
}


@pytest.mark.parametrize(("script", "expected"), SEEN.values(), ids=SEEN)
def test_the_page(visit, make_page, script, expected):
    assert visit(make_page(), script) == (expected, [])


def test_search_and_filter_go_together(visit, make_page):
    found = visit(
        make_page(["brain_1.png", "Brain_22.png", "liver_1.png", 'a"<b>.png']),
        """
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
        """,
    )
    expected = {
        "brain": [[0.9, 0.2], True],
        "markup": [[7.25], True],
        "none": [[], False],
        "both": [[0.2], True],
        "shown": "1 of 1",
    }
    assert found == (expected, [])


def test_outlines_opacity_and_one_at_a_time_can_be_switched(visit, make_page):
    (before, after), _ = visit(
        make_page(),
        """
          const style = (name) => getComputedStyle(document.querySelector(name));
          const measure = () => ({
            outline: style(".mask").display,
            opacity: style(".layer").opacity,
            width: document.querySelector(".current .pictures").clientWidth,
            cards: cards().filter((card) => card.clientWidth).length,
          });
          const before = measure();
          document.getElementById("outlines").click();
          document.getElementById("single").click();
          set("opacity", "0.25", "input");
          return [before, measure()];
        """,
    )
    assert (before["outline"], before["opacity"], before["cards"]) == ("inline", "0.75", 4)
    assert (after["outline"], after["opacity"], after["cards"]) == ("none", "0.25", 1)
    assert after["width"] > before["width"]


@pytest.mark.parametrize("guarded", [True, False], ids=["with policy", "without policy"])
def test_scripts_in_names_and_values_do_not_run(visit, make_page, guarded):
    found = visit(
        make_page(),
        """
          return {
            hit: window.hit ?? null,
            scripts: document.scripts.length,
            names: cards().map((card) => card.querySelector("h3").textContent),
            strangers: document.querySelectorAll("h3 *, pre *, [onload], [onerror]").length,
            title: document.title,
          };
        """,
        guarded=guarded,
    )
    expected = {
        "hit": None,
        "scripts": 1,
        "names": [name.replace("\n", "\\n") for name in PAYLOADS],
        "strangers": 0,
        "title": f"{PAYLOADS[0]} – Test report",
    }
    assert found == (expected, [])


@pytest.mark.parametrize("guarded", [True, False], ids=["with policy", "without policy"])
def test_the_policy_stops_what_got_past_the_escaping(visit, make_page, guarded):
    page = make_page().replace("</header>", "<script>window.hit = 1</script></header>")
    hit, console = visit(page, "return window.hit ?? null", guarded=guarded)
    assert hit == (None if guarded else 1)
    assert any("Content Security Policy" in line for line in console) == guarded


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_scrolls_sideways(visit, make_page, width):
    page = make_page(["x" * 300 + ".png", *PAYLOADS[:3]])
    (inner, content), _ = visit(
        page,
        """
          document.querySelector("details").open = true;
          return [window.innerWidth, document.documentElement.scrollWidth];
        """,
        width=width,
    )
    assert inner == width
    assert content <= width


def test_a_prediction_renders_and_filters(visit, predicted):
    found = visit(
        predicted(
            f"EXPERIMENT_NAME={PAYLOADS[0]}",
            names=PAYLOADS,
            scores=(0.1, 0.9, 0.7, 0.2),
            val_data_path=PAYLOADS[1],
            errors=[(PAYLOADS[0], PAYLOADS[1])],
        ),
        """
          const all = scores();
          press("anomalous");
          return {all, anomalous: scores(), hit: window.hit ?? null};
        """,
    )
    expected = {"all": [0.9, 0.7, 0.2, 0.1], "anomalous": [0.9, 0.7], "hit": None}
    assert found == (expected, [])
