"""The slider through a volume in a real browser: steps, keys, clicks, paper, narrow screens."""

from tests.conftest import needs_browser
from tests.engine.report.conftest import make_volume

pytestmark = needs_browser

SCORES = [0.1, 0.3, 0.9, 0.4, 0.6]
LOOK = """
const volume = document.querySelector(".volume");
const range = volume.querySelector("[type=range]");
const look = () => ({
  shown: [...volume.querySelectorAll(".panels use")].map((use) => use.getAttribute("href")),
  drawn: [...volume.querySelectorAll(".panels use")].every((use) => use.getBBox().width > 0),
  text: volume.querySelector("output").textContent,
  here: Number(/[0-9.]+/.exec(volume.querySelector(".here").getAttribute("d"))[0]),
});
const position = () => Number(look().shown[0].split("-")[2]);
const key = (name, target = range) => {
  target.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
  return position();
};
const click = (target, share) => {
  const box = target.getBoundingClientRect();
  const at = {clientX: box.left + share * box.width, clientY: box.top + 5, bubbles: true};
  target.dispatchEvent(new PointerEvent("pointerdown", at));
  return position();
};
"""


def test_a_volume_is_stepped_through_from_its_worst_slice(visit, written):
    page = written(volumes=[make_volume(scores=SCORES, label=1), make_volume("b.nii")])
    found, console = visit(
        page,
        f"""
          {LOOK}
          const first = look();
          const keys = ["ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft"]
            .map((name) => key(name));
          const card = document.querySelector(".card.current").id;
          range.value = 3;
          range.dispatchEvent(new Event("input", {{bubbles: true}}));
          const moved = look();
          const button = volume.querySelectorAll("button")[1];
          button.click();
          const pressed = [position(), key("ArrowLeft", button)];
          const curve = click(volume.querySelector(".curve"), 0.31);
          const focused = document.activeElement === range;
          const thumbnail = click(volume.querySelectorAll(".thumbnails svg")[4], 0.5);
          const current = volume.querySelectorAll(".thumbnails .current").length;
          dispatchEvent(new Event("beforeprint"));
          const paper = position();
          dispatchEvent(new Event("afterprint"));
          const other = document.querySelectorAll(".volume")[1].querySelector("output").value;
          return {{first, keys, card, moved, pressed, curve, focused, thumbnail, current, paper,
            after: position(), other}};
        """,
    )
    parts = ("image", "map", "image", "contour")
    assert found["first"] == {
        "shown": [f"#slice-0-2-{part}" for part in parts],
        "drawn": True,
        "text": "slice 2, score 0.9",
        "here": 50,
    }
    assert found["keys"] == [3, 2, 1, 0, 0]
    assert found["card"] == "card-0", "the keys of a volume do not step through the gallery"
    assert found["moved"] == {
        "shown": [f"#slice-0-3-{part}" for part in parts],
        "drawn": True,
        "text": "slice 3, score 0.4",
        "here": 70,
    }
    assert found["pressed"] == [4, 3]
    assert found["curve"] == 1
    assert found["focused"]
    assert (found["thumbnail"], found["current"]) == (4, 1)
    assert (found["paper"], found["after"]) == (2, 4)
    assert found["other"] == "slice 1, score 0.7"
    assert not console


def test_volumes_fit_a_narrow_screen(visit, written):
    volumes = [make_volume("x" * 300, extent=(40.0, 300.0)), make_volume(extent=(300.0, 40.0))]
    found, _ = visit(
        written(volumes=volumes),
        """
          const panels = [...document.querySelectorAll(".panels svg")];
          const heights = panels.map((each) => each.getBoundingClientRect().height);
          return {content: document.documentElement.scrollWidth, heights};
        """,
        width=390,
    )
    assert found["content"] <= 390
    assert max(found["heights"]) <= 420
