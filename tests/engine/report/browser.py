"""A report in a real browser, and a script of ours that looks at it there."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

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
VISIBLE = """
const cards = () => [...document.querySelectorAll(".card")].filter((card) => !card.hidden);
const scores = () => cards().map((card) => Number(card.dataset.score));
const press = (group) => document.querySelector(`[name=group][value="${group}"]`).click();
const set = (id, value, event) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event(event, {bubbles: true}));
};
"""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")


@dataclass(frozen=True)
class Visit:
    """What a script found on a page, and what the browser complained about."""

    found: dict
    console: list[str]


def open_page(folder: Path, page: str, fields: str, *, guarded: bool = True) -> Visit:
    """Opens a page in a browser of its own and evaluates an object's fields there."""
    script = (
        VISIBLE
        + "const result = document.createElement('pre'); result.id = 'result';"
        + f"(async () => {fields})().then((found) => {{"
        + "result.textContent = JSON.stringify(found); document.body.append(result); });"
    )
    file = folder / "page.html"
    file.write_text(with_script(page, script, guarded=guarded), encoding="utf-8")
    return run_browser(file, folder / "profile")


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
