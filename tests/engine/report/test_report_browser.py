"""Reports in a real browser: they render, filter, sort and search, and run no one else's script."""

import html

import pytest

from engine.evaluate.calibration import ColourScale
from engine.report.render import VERDICTS
from tests.engine.report.browser import needs_browser

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


def test_the_page_renders_without_complaint(visit, make_page):
    seen = visit(
        make_page(),
        """({
          cards: cards().length,
          pictures: (await Promise.all([...document.querySelectorAll("image")].map((each) => {
            const image = new Image();
            image.src = each.getAttribute("href");
            return image.decode().then(() => image.naturalWidth);
          }))),
          controls: !document.getElementById("controls").hidden,
          shown: document.getElementById("shown").textContent,
          loaded: performance.getEntriesByType("resource")
            .map((entry) => entry.name).filter((name) => !name.startsWith("data:")),
        })""",
    )
    assert seen.found == {
        "cards": 4,
        "pictures": [16] * 12,
        "controls": True,
        "shown": "1 of 4",
        "loaded": [],
    }
    assert not seen.console


def test_filters_choose_by_verdict(visit, make_page):
    seen = visit(
        make_page(),
        """{
          const found = {};
          for (const button of document.querySelectorAll("[name=group]")) {
            button.click();
            found[button.value || "all"] = [button.parentNode.textContent.trim(), scores()];
          }
          found.pressed = document.querySelectorAll("[name=group]:checked").length;
          return found;
        }""",
    )
    assert seen.found == {
        "all": ["All 4", [0.9, 0.2, 0.0015, 7.25]],
        "fn": [f"{VERDICTS['fn']} 1", [0.2]],
        "fp": [f"{VERDICTS['fp']} 1", [0.9]],
        "tp": [f"{VERDICTS['tp']} 1", [7.25]],
        "tn": [f"{VERDICTS['tn']} 1", [0.0015]],
        "pressed": 1,
    }
    assert not seen.console


def test_search_and_filter_go_together(visit, make_page):
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
        "shown": "1 of 1",
    }
    assert not seen.console


def test_orders(visit, make_page):
    seen = visit(
        make_page(),
        """{
          const found = {};
          for (const order of ["ascending", "descending", "rank"]) {
            set("order", order, "input");
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


def test_arrow_keys_step_through_what_is_shown(visit, make_page):
    seen = visit(
        make_page(),
        """{
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
        }""",
    )
    assert seen.found == {
        "steps": [0.0015, 0.2, 0.9, 0.2],
        "typing": 0.2,
        "next": 0.9,
        "shown": "3 of 4",
    }
    assert not seen.console


def test_outlines_opacity_and_one_at_a_time_can_be_switched(visit, make_page):
    seen = visit(
        make_page(),
        """{
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
          return {before, after: measure()};
        }""",
    )
    before, after = seen.found["before"], seen.found["after"]
    assert (before["outline"], before["opacity"], before["cards"]) == ("inline", "0.75", 4)
    assert (after["outline"], after["opacity"], after["cards"]) == ("none", "0.25", 1)
    assert after["width"] > before["width"]


@pytest.mark.parametrize("guarded", [True, False], ids=["with policy", "without policy"])
def test_scripts_in_names_and_values_do_not_run(visit, make_page, guarded):
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


def test_the_policy_stops_what_got_past_the_escaping(visit, make_page):
    page = make_page().replace("</header>", "<script>window.hit = 1</script></header>")
    seen = visit(page, "({hit: window.hit ?? null})")
    assert seen.found == {"hit": None}
    assert any("Content Security Policy" in line for line in seen.console)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_scrolls_sideways(visit, make_page, width):
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


def test_a_prediction_renders_and_filters(visit, predicted):
    seen = visit(
        predicted(
            f"EXPERIMENT_NAME={PAYLOADS[0]}",
            names=PAYLOADS,
            scores=(0.1, 0.9, 0.7, 0.2),
            val_data_path=PAYLOADS[1],
            errors=[(PAYLOADS[0], PAYLOADS[1])],
        ),
        """{
          const all = scores();
          press("anomalous");
          return {all, anomalous: scores(), hit: window.hit ?? null};
        }""",
    )
    assert seen.found == {"all": [0.9, 0.7, 0.2, 0.1], "anomalous": [0.9, 0.7], "hit": None}
    assert not seen.console
