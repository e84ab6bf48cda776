"""The HTML report: a template and what it shows to one self-contained file.

Nothing is loaded from elsewhere. File names and config values are other people's text: they are
escaped wherever they stand, scripts read them from the document only, and the page's own policy
lets no script run but ours.
"""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import to_hex

from engine.report.pictures import OPACITY
from utils.plots import COLOUR_MAP

TEMPLATES = Path(__file__).parent / "templates"

# One script for the page: its policy names one digest.
_SCRIPTS = ("report.js", "volumes.js")

VERDICTS = {
    "fn": "False negative",
    "fp": "False positive",
    "tp": "True positive",
    "tn": "True negative",
    "anomalous": "Anomalous",
    "normal": "Normal",
    "none": "No verdict",
}
"""Keys and names of verdicts, in the order of their buttons."""


def render(template: str, **context: object) -> str:
    """A page as HTML.

    Args:
        template: ``test.html.j2`` or ``prediction.html.j2``, which list what they show.
        context: All of it.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _visible(value, "\n\t") if isinstance(value, str) else value,
    )
    environment.filters |= {"one_line": _visible, "number": _number}
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        context,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdicts=VERDICTS,
        script=Markup(script),
        script_hash=digest,
        stops=", ".join(map(to_hex, mpl.colormaps[COLOUR_MAP](np.linspace(0, 1, 33)))),
        opacity=OPACITY,
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
