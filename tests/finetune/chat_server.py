"""A server on this machine with OpenAI's routes, which answers as a test tells it to, also badly."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status with a body as it stands, which is no JSON where that is a text."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """A reply in its pieces."""

    pieces: list[str]
    finish_reason: str | None = "stop"
    usage: dict[str, int] | None = None


Answer = Callable[[dict[str, Any]], Said | Fault]


class ChatServer(ThreadingHTTPServer):
    """What it was asked, and how it answers."""

    def __init__(self, answer: Answer, models: list[str] | Fault) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.models = answer, models
        self.requests: list[dict[str, Any]] = []
        """The bodies of what was asked, with `path` and `authorization`."""

    @property
    def address(self) -> str:
        """What the command line names it by."""
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def serve_chat(answer: Answer, models: list[str] | Fault | None = None) -> Iterator[ChatServer]:
    """A server that listens until the block ends."""
    server = ChatServer(answer, ["tiny"] if models is None else models)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_GET(self) -> None:
        models = self.server.models
        if isinstance(models, Fault):
            self._fail(models)
        else:
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = {**body, "path": self.path, "authorization": self.headers.get("Authorization")}
        self.server.requests.append(asked)
        said = self.server.answer(asked)
        if isinstance(said, Fault):
            self._fail(said)
        elif body.get("stream"):
            self._stream(said, chat=self.path.endswith("/chat/completions"))
        elif self.path.endswith("/chat/completions"):
            message = {"role": "assistant", "content": "".join(said.pieces)}
            self._whole(said, {"message": message})
        else:
            self._whole(said, {"text": "".join(said.pieces)})

    def _whole(self, said: Said, content: dict[str, Any]) -> None:
        choice = {"index": 0, "finish_reason": said.finish_reason, **content}
        self._send(200, {"choices": [choice], **({"usage": said.usage} if said.usage else {})})

    def _stream(self, said: Said, *, chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        chunks = [(piece, None) for piece in said.pieces] + [(None, said.finish_reason)]
        for piece, reason in chunks:
            content = {"delta": {"content": piece}} if chat else {"text": piece or ""}
            choice = {"index": 0, "finish_reason": reason, **content}
            self._event({"choices": [choice], **({"usage": said.usage} if piece is None and said.usage else {})})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, chunk: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def _fail(self, fault: Fault) -> None:
        self._send(fault.status, fault.body, fault.headers)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        is_text = isinstance(body, str)
        sent = (body if is_text else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if is_text else "application/json")
        self.send_header("Content-Length", str(len(sent)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the output belongs to the test."""
