"""The page: its layout, and which callback handles which event."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from app.callbacks import Callbacks
from app.pictures import png
from app.result import View
from datasets.readers.image import read_image
from utils.config.schema import TestingConfig
from utils.intensity import IntensityWindow

HERE = Path(__file__).parent
# Abandoned uploads are deleted after an hour, processed ones at once.
_CLEAN_EVERY, _KEPT_FOR = 600, 3600
# The page has its own styles.
_PLAIN: Any = {"apply_default_css": False, "padding": False}

_HEADER = """
<header class="q-top">
  <div><h1>What is unusual in this image?</h1>
  <p class="q-muted">QFAE, experiment {experiment}: Q-Former Autoencoder on {model}</p></div>
  <p class="q-notice"><b>For research only.</b> Not a medical device: not for diagnosis or
  treatment.</p>
</header>"""
_FOOTER = """
<p class="q-foot">Files are sent only to the machine that serves this page. An upload is
deleted as soon as it is scored, its result when the page is closed.</p>"""
_DROP = """
<p class="q-muted">Drop a picture, a DICOM or NIfTI file, the files of one DICOM series, or a zip
file of them.</p>"""


def build_page(
    callbacks: Callbacks, settings: TestingConfig, examples: Sequence[tuple[str, Path]]
) -> gr.Blocks:
    """The page.

    Args:
        callbacks: What handles its events.
        settings: Of the model, for the header.
        examples: Name and file of pictures to try.
    """
    title = settings.experiment_name
    model = ", ".join(settings.model_name)
    with gr.Blocks(
        title=f"QFAE: {title}", analytics_enabled=False, delete_cache=(_CLEAN_EVERY, _KEPT_FOR)
    ) as page:
        gr.HTML(_HEADER.format(experiment=escape(title), model=escape(model)) + _DROP, **_PLAIN)
        upload = gr.File(
            file_count="multiple", label="Image", height=140, elem_id="upload", show_label=False
        )
        gallery = gr.HTML(
            _gallery(examples),
            js_on_load=(HERE / "examples.js").read_text(encoding="utf-8"),
            visible=bool(examples),
            **_PLAIN,
        )
        viewer = gr.HTML(
            value={},
            html_template=(HERE / "viewer.html").read_text(encoding="utf-8"),
            js_on_load=(HERE / "viewer.js").read_text(encoding="utf-8"),
            elem_id="viewer",
            **_PLAIN,
        )
        gr.HTML(_FOOTER, **_PLAIN)
        _connect(page, callbacks, upload, gallery, viewer, [path for _, path in examples])
    return page


def _connect(
    page: gr.Blocks,
    callbacks: Callbacks,
    upload: gr.File,
    gallery: gr.HTML,
    viewer: gr.HTML,
    examples: Sequence[Path],
) -> None:
    """Connect each event to its callback."""

    def uploaded(files: list[str], request: gr.Request) -> Iterator[tuple[None, View]]:
        for view in callbacks.score([Path(each) for each in files], session_of(request)):
            yield None, view

    def chosen(request: gr.Request, event: gr.EventData) -> Iterator[View]:
        path = examples[int(event.number) % len(examples)]
        yield from callbacks.score([path], session_of(request), keep=True)

    def turned(request: gr.Request, event: gr.EventData) -> View:
        return callbacks.turn_to(int(event.number), session_of(request))

    def closed(request: gr.Request) -> None:
        callbacks.close(session_of(request))

    # Private: the page is for people, not an interface for programs.
    hidden: Any = {"show_progress": "hidden", "api_visibility": "private"}
    # One model: uploads and examples wait for each other.
    model: Any = hidden | {"concurrency_id": "model", "concurrency_limit": 1}
    upload.upload(uploaded, upload, [upload, viewer], **model)
    gallery.example(chosen, None, viewer, **model)
    viewer.slice(turned, None, viewer, queue=False, trigger_mode="always_last", **hidden)
    page.unload(closed)


def session_of(request: gr.Request) -> str:
    """The session that a request belongs to: one for each time the page is opened."""
    return str(request.session_hash)


def _gallery(examples: Sequence[tuple[str, Path]]) -> str:
    """The examples as buttons with pictures."""
    buttons = "".join(
        f'<button type="button" data-number="{number}">'
        f'<img src="{png(read_image(path, IntensityWindow()))}" alt="">'
        f"<span>{escape(name)}</span></button>"
        for number, (name, path) in enumerate(examples)
    )
    return f'<div class="q-examples"><p class="q-muted">Or try one of these</p>{buttons}</div>'
