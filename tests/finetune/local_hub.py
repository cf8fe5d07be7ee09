"""A Hugging Face Hub on this machine that keeps what its client uploads, as far as uploading a folder needs it."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class LocalHub(ThreadingHTTPServer):
    """The repositories that were made, and the files in them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str] = set()
        self.refusal: tuple[int, str] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_hub() -> Iterator[LocalHub]:
    """A hub that listens until the block ends."""
    hub = LocalHub()
    Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.refusal:
            self._answer({"error": self.server.refusal[1]}, self.server.refusal[0])
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":  # of the card
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in asked]
            self._answer({"files": modes})
        else:
            self._commit(body)

    def do_GET(self) -> None:
        self._answer({"error": "nothing is read from here"}, 404)

    def _create(self, asked: dict) -> None:
        name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
        self.server.private[name] = asked.get("private", False) or asked.get("visibility") == "private"
        self.server.files[name] = {}
        self._answer({"url": f"{self.server.address}/{name}", "name": name, "id": name})

    def _commit(self, body: bytes) -> None:
        match = re.match(r"/api/models/(.+)/commit/main", self.path)
        assert match, self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[match[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        address = f"{self.server.address}/{match[1]}/commit/1"
        self._answer({"success": True, "commitOid": "1", "commitUrl": address, "hookOutput": ""})

    def _answer(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
