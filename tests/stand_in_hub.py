"""A Hugging Face hub on the loopback address, as far as downloads of single files ask for one."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FILE = re.compile(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/([^?]+)")
TREE = re.compile(r"/api/models/([\w.-]+/[\w.-]+)/tree/([^/?]+)")
TOKEN = "hf_of_the_test"


class StandInHub:
    """Repositories that are served.

    Attributes:
        files: Repository → path → content.
        commit: The commit that ``main`` of every repository stands for.
        gated: Repositories that are read with ``TOKEN`` only.
        cut: Whether the next download breaks off in its middle.
        mute: Whether requests get no answer.
        requests: Method, path and Range header of each request so far.
        endpoint: Value of HF_ENDPOINT.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.commit = "a" * 40
        self.gated: set[str] = set()
        self.cut = self.mute = False
        self.requests: list[tuple[str, str, str | None]] = []
        self.endpoint = ""
        self.closing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    hub: StandInHub

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def respond(self) -> None:
        hub = self.hub
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if hub.mute:
            hub.closing.wait(60)
            return
        found = FILE.fullmatch(self.path) or TREE.match(self.path)
        repo, revision = found.groups()[:2] if found else ("", "")
        allowed = repo not in hub.gated or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo not in hub.files:
            self.fail(404, "RepoNotFound")
        elif not allowed:
            self.fail(403, "GatedRepo")
        elif revision not in ("main", hub.commit):
            self.fail(404, "RevisionNotFound")
        elif self.path.startswith("/api/"):
            listing = [
                {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                for path, content in hub.files[repo].items()
            ]
            self.send(json.dumps(listing).encode())
        elif found and found[3] in hub.files[repo]:
            self.send(hub.files[repo][found[3]])
        else:
            self.fail(404, "EntryNotFound")

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes) -> None:
        start = int(re.sub(r"\D", "", self.headers.get("Range") or "0"))
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            end = len(content) // 2 if self.hub.cut else len(content)
            self.hub.cut = False
            self.wfile.write(content[start:end])


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """A hub that is served until the block ends."""
    hub = StandInHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfHub", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield hub
    hub.closing.set()
    server.shutdown()
    server.server_close()
