"""The HTML report: plain data of a page to one self-contained file.

Nothing is loaded from elsewhere. File names and config values are other people's text: they are
escaped wherever they stand, scripts read them from the document only, and the page's own policy
lets no script run but ours.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from utils.report_charts import Chart, Point

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Figure:
    """One figure of a test: value and 95 % interval, None where not defined."""

    name: str
    value: float | None
    interval: Point | None
    explanation: str


@dataclass(frozen=True)
class Confusion:
    """Decisions at the threshold; the rates have names and lie from 0 to 1."""

    tp: int
    fp: int
    tn: int
    fn: int
    rates: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class ColourKey:
    """The colour scale of all anomaly maps.

    Attributes:
        low: Pixel score at its beginning.
        high: Pixel score at its end.
        source: What it was learnt on.
        picture: A strip of its colours, as a data URI.
    """

    low: float
    high: float
    source: str
    picture: str


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        name: The image's path.
        score: Its anomaly score.
        label: ``normal`` or ``anomalous``, None where unknown.
        verdict: A key of :data:`VERDICTS`.
        rank: Place when the most misleading images come first; None where labels are unknown.
        size: Width and height that the mask's path is drawn in.
        image: A data URI.
        reconstruction: A data URI.
        overlay: The anomaly map on the image, a data URI.
        mask_path: SVG path around the mask; "" where it is empty, None where there are no masks.
    """

    name: str
    score: float
    label: str | None
    verdict: str
    rank: int | None
    size: tuple[int, int]
    image: str
    reconstruction: str
    overlay: str
    mask_path: str | None

    @property
    def group(self) -> str:
        """What the gallery's buttons choose by: the verdict, the label where there is none."""
        return self.label or self.verdict if self.verdict == "none" else self.verdict


VERDICTS = {
    "fn": "False negative",
    "fp": "False positive",
    "tp": "True positive",
    "tn": "True negative",
    "anomalous": "Anomalous",
    "normal": "Normal",
    "none": "No threshold",
}
"""Keys and names of verdicts, in the order of their buttons."""


@dataclass(frozen=True)
class Page:
    """What every report shows.

    Attributes:
        experiment: Name of the experiment.
        made: When the report was made.
        counts: Names and numbers of images.
        threshold: An image with this score or above is called anomalous; None without one.
        threshold_source: Where it came from, or why there is none, as a sentence.
        charts: Charts of the scores.
        charts_missing: Why charts are missing, as a sentence; "" where none is.
        colours: The colour scale of all maps.
        cards: The gallery, in its first order.
        cards_note: Which images these are, as a sentence.
        config_text: The resolved configuration.
        setup: Names and values: seed, versions.
    """

    template: ClassVar[str]

    experiment: str
    made: str
    counts: tuple[tuple[str, int], ...]
    threshold: float | None
    threshold_source: str
    charts: tuple[Chart, ...]
    charts_missing: str
    colours: ColourKey
    cards: tuple[Card, ...]
    cards_note: str
    config_text: str
    setup: tuple[tuple[str, str], ...]

    @property
    def filters(self) -> list[tuple[str, str, int]]:
        """Key, name and number of cards of each group that the gallery holds."""
        found = Counter(card.group for card in self.cards)
        return [(key, name, found[key]) for key, name in VERDICTS.items() if found[key]]


@dataclass(frozen=True)
class TestPage(Page):
    """The report of a test.

    Attributes:
        figures: Metrics with their intervals.
        figures_note: How to read them, as a sentence.
        confusion: Decisions at the threshold, None without one.
    """

    __test__ = False
    template: ClassVar[str] = "test.html.j2"

    figures: tuple[Figure, ...]
    figures_note: str
    confusion: Confusion | None


@dataclass(frozen=True)
class PredictionPage(Page):
    """The report of a prediction.

    Attributes:
        unreadable: Path and error of each file that could not be read.
    """

    template: ClassVar[str] = "prediction.html.j2"

    unreadable: tuple[tuple[str, str], ...]


def render(page: Page) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _visible(value, "\n\t") if isinstance(value, str) else value,
    )
    environment.filters |= {"one_line": _visible, "number": _number}
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(page.template).render(
        page=page, verdicts=VERDICTS, script=Markup(script), script_hash=digest
    )


def _visible(text: str, kept: str = "") -> str:
    """Escapes for what cannot be printed, so that no name hides or forges a part of itself.

    HTML has no place for control characters, UTF-8 none for undecodable bytes of file names.
    """
    if isinstance(text, Markup) or text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def _number(value: float | None, form: str = ".4f") -> str:
    return "not defined" if value is None else format(value, form)
