"""Attacks on the studio as a process: foreign pages, foreign names, floods, requests that no page would send."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gradio_client import Client

from tests.apps.sent_by_hand import CANCEL, FORM, JOIN, REQUESTS, RUN, asking_index, call, empty_queue, fill_queue, send

MEGABYTE = 10**6
REFUSED = range(400, 500)


@pytest.fixture(scope="module")
def index(served) -> int:
    return asking_index(served)


def _memory(served, kind: str) -> int:
    """Kilobytes that the server holds, or held at most since its peak was reset."""
    lines = Path(f"/proc/{served.process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def test_the_official_client_asks_a_question_and_is_refused_one_with_words(served):
    client = Client(served.address, verbose=False)
    shown = client.predict(*FORM, api_name="/ask")
    assert "5 tokens · first after" in shown[1] and "tokens/s" in shown[4]
    with pytest.raises(Exception, match="temperature: found 9, expected a number from 0 to 2"):
        client.predict(*FORM[:4], 9, *FORM[5:], api_name="/ask")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.0.2.1", ""])
def test_under_a_foreign_name_nothing_is_given_and_nothing_runs(served, index, host):
    headers = {"Host": host, "Origin": f"http://{host}"}
    for method, path, body in (
        ("GET", "/", None),
        ("GET", "/config", None),
        ("POST", JOIN, json.dumps(call(index))),
        ("POST", RUN, json.dumps(call(0, data=[]))),
    ):
        status, words, _ = send(served, method, path, body, headers)
        assert (status, "Host: found" in words) == (403, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},  # what a page may send unasked
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_the_page_of_another_site_makes_nothing_run(served, index, headers):
    for path, body in ((JOIN, call(index)), (RUN, call(0, data=[])), ("/gradio_api/upload", {})):
        status, words, answered = send(served, "POST", path, json.dumps(body), headers)
        assert (status, next(iter(headers)) in words) == (403, True)
        assert (
            headers.get("Origin") != answered.get("access-control-allow-origin", "") or "localhost" in headers["Origin"]
        )
    if "Origin" in headers:
        assert send(served, "GET", "/config", None, headers)[0] == 403


def _zeros(megabytes: int) -> Iterator[bytes]:
    for _ in range(megabytes):
        yield bytes(MEGABYTE)


def test_floods_are_refused_with_words_and_leave_the_memory_as_it_was(served):
    before = _memory(served, "VmRSS")
    Path(f"/proc/{served.process}/clear_refs").write_text("5")  # the peak counts from here
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for path, megabytes, headers, expected in (
        ("/gradio_api/upload", 200, form, 404),  # in chunks
        ("/gradio_api/upload", 200, {**form, "Content-Length": str(200 * MEGABYTE)}, 404),
        (JOIN, 100, {}, 413),
        (JOIN, 100, {"Content-Length": str(100 * MEGABYTE)}, 413),
    ):
        status, words, _ = send(served, "POST", path, _zeros(megabytes), headers)
        assert (status, bool(words)) == (expected, True)
    assert _memory(served, "VmHWM") - before <= 20_000


def test_a_long_body_is_refused_before_it_is_sent(served):
    address = urlsplit(served.address)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        head = f"POST {JOIN} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {200 * MEGABYTE}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


SHAPES = {
    "nothing": b"",
    "half": b'{"data": [',
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "long number": b'{"fn_index": ' + b"9" * 5000 + b"}",
    "array": b"[]",
    "null": b"null",
    "text": b'"join"',
    "empty": b"{}",
}


@pytest.mark.parametrize("path", [JOIN, RUN, CANCEL, "/gradio_api/reset"])
@pytest.mark.parametrize("body", SHAPES.values(), ids=SHAPES)
def test_a_body_that_says_nothing_is_refused_with_words(served, path, body):
    status, words, _ = send(served, "POST", path, body)
    assert status in REFUSED
    assert words


NO_INDEX: tuple[object, ...] = (999, -1, "1", True, 1.5, None, [], float("inf"))
NO_SESSION: tuple[object, ...] = (None, "", 7, [], "x" * 65)
NO_FORM: tuple[object, ...] = (None, "what is abs?", {}, [], FORM[:7], [*FORM, 1])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        *[({"fn_index": found}, "fn_index: found") for found in NO_INDEX],
        *[({"session_hash": found}, "session_hash: found") for found in NO_SESSION],
        *[({"data": found}, "data: found") for found in NO_FORM],
        ({"data": [{"text": "what"}, *FORM[1:]]}, r"data[0]: found an object, expected text"),
        ({"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, *FORM[1:]]}, "data[0]: found"),
        ({"data": [*FORM[:8], [96], *FORM[9:]]}, "data[8]: found an array"),
        ({"batched": True}, "batched: found true"),
        ({"trigger_id": "x"}, "valid integer"),
        ({"event_id": 5}, "valid string"),
    ],
)
def test_a_call_of_another_shape_is_refused_before_it_waits(served, index, changed, expected):
    status, words, _ = send(served, "POST", JOIN, json.dumps(call(index, **changed)))
    assert (status, expected in words) == (422, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", path) for path in ("/", "/login", "/gradio_api/run/nothing", "/gradio_api/api/ask", "/nothing")],
        *[("POST", f"/gradio_api/{name}") for name in ("call/ask", "call/v2/ask", "upload", "upload?upload_id=x")],
        *[("POST", f"/gradio_api/{name}") for name in ("component_server", "stream/x", "process_recording")],
        *[("POST", f"/gradio_api/{name}") for name in ("vibe-edit", "run/ask", "queue/join/", "queue//join")],
        *[(method, "/gradio_api/queue/join") for method in ("PUT", "DELETE", "PATCH", "SEARCH")],
        *[("GET", f"/gradio_api/queue/data{query}") for query in ("", "?session_hash=", "?session_hash=unknown")],
        *[("GET", f"/gradio_api/{name}") for name in ("call/ask/x", "upload_progress?upload_id=x", "dev/reload")],
        *[
            ("GET", f"/gradio_api/{name}")
            for name in ("file=/etc/passwd", "proxy=http://192.0.2.1", "stream/x/1/2/3.ts")
        ],
    ],
)
def test_a_path_that_the_page_does_not_use_is_refused_with_words(served, method, path):
    status, words, _ = send(served, method, path, json.dumps(call(999)) if method == "POST" else None)
    assert status in REFUSED
    assert words


@pytest.mark.long
def test_a_full_queue_says_when_to_come_again_and_works_on_once_it_is_empty(served, index):
    accepted, refused = fill_queue(served, index)
    empty_queue(served, index, accepted)
    assert len(accepted) + len(refused) == REQUESTS
    assert len(refused) >= 10
    said = {(words.startswith("Queue is full."), headers["retry-after"]) for _, words, headers in refused}
    assert said == {(True, "10")}
    assert Client(served.address, verbose=False).predict(*FORM, api_name="/ask")[0]


def test_no_attack_left_an_error_in_what_the_server_prints(served):
    assert "Traceback" not in served.output.read_text()
