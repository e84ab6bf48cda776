"""Serves the page, by default on this machine only; it contacts no other machine."""

import ipaddress
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import gradio as gr
from gradio.exceptions import ServerFailedToStartError

from app.callbacks import Callbacks
from app.layout import HERE, build_page
from app.uploads import LARGEST_FILE
from datasets.folders.layouts import list_images
from datasets.phantom.write import RECORD_NAME
from engine.predictor import Predictor
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Of each class of the demo's phantoms.
_EXAMPLES = 3


def serve(predictor: Predictor, host: str, port: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Raises:
        UserError: Nothing can listen there.
    """
    # The default would leave temporary files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not _is_own_machine(host):
        logger.warning("anyone who can reach %s can use this page; it has no password", host)
    with running(predictor, host, port) as address:
        logger.info("open %s in a browser; stop it with Ctrl-C", address)
        threading.Event().wait()


@contextmanager
def running(predictor: Predictor, host: str, port: int) -> Iterator[str]:
    """The page's address; at the end the server stops and temporary files are deleted.

    Raises:
        UserError: Nothing can listen there.
    """
    with _own_folder() as folder:
        callbacks = Callbacks(predictor, Path(folder))
        page = build_page(callbacks, predictor.settings, examples_of(predictor))
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                footer_links=[],
                max_file_size=LARGEST_FILE,
                theme=gr.themes.Base(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ),
                css_paths=HERE / "page.css",
            )
        except (OSError, ServerFailedToStartError) as error:
            raise UserError(
                f"--host {host} --port {port}: cannot listen there; the port may be in use, try "
                "another"
            ) from error
        try:
            yield address
        finally:
            page.close(verbose=False)


def examples_of(predictor: Predictor) -> list[tuple[str, Path]]:
    """Some test images, if they are phantoms: real patients are never shown as examples."""
    folder = predictor.settings.test_data_path
    if not (folder.parent / RECORD_NAME).is_file():
        return []
    normal, lesions = (
        list_images(folder / each / "img", tell=False) for each in ("good", "Ungood")
    )
    return [
        *((f"normal {n + 1}", path) for n, path in enumerate(normal[:_EXAMPLES])),
        *((f"lesion {n + 1}", path) for n, path in enumerate(lesions[:_EXAMPLES])),
    ]


@contextmanager
def _own_folder() -> Iterator[str]:
    """A folder that Gradio writes to, removed at the end; Gradio sends no statistics."""
    above = os.environ.get("GRADIO_TEMP_DIR") or gettempdir()
    unproxied = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    with TemporaryDirectory(prefix="qfae-", dir=above) as folder:
        os.environ |= {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            # It asks its own server whether it has started: no proxy would answer that.
            "no_proxy": ",".join(filter(None, [unproxied, "127.0.0.1", "localhost"])),
        }
        try:
            yield folder
        finally:
            os.environ["GRADIO_TEMP_DIR"] = above


def _is_own_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
