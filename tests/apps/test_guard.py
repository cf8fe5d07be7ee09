"""The guard before an application that is not the studio: who may ask, under which name, and how much."""

import asyncio
import time

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from apps.guarding.guard import Guard, Rules, read_body
from configs import InputError
from tests import own_loop

LONGEST = 1000


def _is_question(content: object) -> None:
    if not isinstance(content, dict) or "question" not in content:
        raise InputError("question: is missing")


async def _answer(request: Request) -> JSONResponse:
    return JSONResponse(await request.json())


async def _is_full(request: Request) -> JSONResponse:
    return JSONResponse({"detail": "full"}, 503)


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A small service behind the guard, opened as `demo.example`."""
    routes = [
        Route("/ask", _answer, methods=["POST"]),
        Route("/other", _answer, methods=["POST"]),
        Route("/full", _is_full),
        Route("/secret", _is_full),
        WebSocketRoute("/talk", _talk),
    ]
    rules = Rules(
        hosts=frozenset({"demo.example", "localhost"}),
        takes={"/ask": _is_question, "/full": _is_question},
        closed=("/secret",),
        body_bytes=LONGEST,
        body_seconds=0.2,
        retry_seconds=7,
    )
    return TestClient(Guard(Starlette(routes=routes), rules), base_url="http://demo.example")


def _words(response) -> str:
    words = response.json()["detail"]
    assert isinstance(words, str)
    return words


def test_a_request_of_a_known_shape_reaches_the_application_whole(client):
    behind_tls = {"Origin": "https://demo.example"}
    for headers in (
        {},
        {"Origin": "http://demo.example"},
        behind_tls,
        {"Host": "LOCALHOST:80", "Origin": "http://localhost"},
    ):
        response = client.post("/ask", json={"question": "数"}, headers=headers)
        assert (response.status_code, response.json()) == (200, {"question": "数"})


@pytest.mark.parametrize("host", ["evil.example", "demo.example.evil.example", "demo.example@evil", "", "a:b", "[::2]"])
def test_a_foreign_name_is_refused_whatever_is_asked(client, host):
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT"):
        response = client.request(method, "/ask", headers={"Host": host, "Origin": f"http://{host}"})
        assert response.status_code == 403
        assert method == "HEAD" or "Host: found" in _words(response)


def test_the_address_that_a_connection_arrived_at_is_a_name_of_the_server():
    rules = Rules(hosts=frozenset(), takes={"/ask": _is_question}, body_bytes=LONGEST)
    guarded = Guard(Starlette(routes=[Route("/ask", _answer, methods=["POST"])]), rules)
    client = TestClient(guarded, base_url="http://192.0.2.7:8000")  # the test client connects to what it names
    assert client.post("/ask", json={"question": ""}).status_code == 200
    assert client.post("/ask", json={"question": ""}, headers={"Host": "192.0.2.8"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://demo.example:3000"},
        {"Origin": "http://demo.example/x"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_what_the_page_of_another_site_sends_is_refused_on_sockets_too(client, headers):
    response = client.post("/ask", json={"question": ""}, headers=headers)
    assert response.status_code == 403
    assert next(iter(headers)) in _words(response)
    assert client.get("/full?question=x", headers=headers).status_code == (403 if "Origin" in headers else 503)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://demo.example/talk", headers=headers):
        pass


def test_a_socket_of_the_own_page_opens(client):
    with client.websocket_connect("ws://demo.example/talk", headers={"Origin": "http://demo.example"}) as socket:
        assert socket.receive_text() == "hello"


def test_only_named_paths_take_something_and_closed_ones_give_nothing(client):
    assert _words(client.post("/other", json={})).startswith("POST /other: is off here")
    assert client.get("/secret/x").status_code == 404


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b'{"question": ', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * LONGEST, "application/json", 400),
        (b'{"question": ""}', "text/plain", 415),
        (b'{"question": ""}', "", 415),
        (b"[]", "application/json; charset=utf-8", 422),
        (b" " * (LONGEST + 1), "application/json", 413),
    ],
)
def test_a_body_of_another_shape_is_refused_with_words(client, body, content_type, status):
    response = client.post("/ask", content=body, headers={"Content-Type": content_type})
    assert (response.status_code, bool(_words(response))) == (status, True)


def test_a_query_is_checked_where_a_path_has_a_check(client):
    assert client.get("/full").status_code == 422
    assert client.get("/full?question=x").status_code == 503


def test_a_full_server_says_when_to_come_again(client):
    assert client.get("/full?question=x").headers["Retry-After"] == "7"


def test_a_body_is_read_no_further_than_its_limit_however_it_is_told():
    taken = 0

    async def receive() -> dict:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 600, "more_body": True}

    async def read(headers: list[tuple[bytes, bytes]]) -> None:
        await read_body({"type": "http", "headers": headers}, receive, LONGEST)

    for headers, chunks in (([], 2), ([(b"content-length", b"12")], 2), ([(b"content-length", b"9" * 30)], 0)):
        taken = 0
        with pytest.raises(Exception, match="body: "):
            own_loop.run(read(headers))
        assert taken == chunks


def test_a_body_that_does_not_arrive_is_not_waited_for(client):
    answers = []

    async def receive() -> dict:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        answers.append(message)

    headers = [(b"host", b"demo.example"), (b"content-length", b"5")]
    scope = {"type": "http", "method": "POST", "path": "/ask", "headers": headers, "query_string": b""}
    begun = time.monotonic()
    own_loop.run(client.app(scope, receive, send))
    assert answers[0]["status"] == 408
    assert time.monotonic() - begun < 10
