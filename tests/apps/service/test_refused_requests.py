"""What an attacker sends: foreign hosts and origins, no key, paths, endless bodies, forged lines in the log."""

import json
import re
import socket

import httpx
import pytest

from finetune.service.keys import KeyBook
from tests.apps.service.served import started
from tests.finetune.tiny_models import save_tiny_base

BODY = {"model": "tiny", "prompt": "What", "max_tokens": 2}


@pytest.fixture(scope="module")
def web(service):
    with httpx.Client(base_url=service.address, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_requests_of_elsewhere_are_refused(web, headers):
    answer = web.post("/v1/completions", json=BODY, headers=headers)
    assert answer.status_code == 403 and answer.json()["error"]["type"] == "permission_error"


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/files/..%2f..%2f..%2fetc%2fpasswd", "/v1/files/../../etc/passwd", "/v1/files/file-%00"),
        *("/v1/files/keys.json/content", "/v1/files/file-..%2f..%2fkeys.json/content", "/v1/models/..%2f..%2fetc"),
        *("/v1/fine_tuning/jobs/..%2f..%2fetc", "/v1/fine_tuning/jobs/ftjob-../../x/events", "/docs", "/v1/nothing"),
        *("/v1/fine_tuning/jobs/' OR 1=1 --", "/v1/vocabulary/extensions/../../../x/download"),
    ],
)
def test_paths_lead_nowhere_but_to_ids(web, path):
    answer = web.get(path)
    assert answer.status_code == 404 and answer.json()["error"]["message"], answer.text


def test_a_body_that_is_too_long_is_refused_before_it_comes(service, web):
    declared = {"Content-Length": str(10 * 2**30), "Content-Type": "application/json"}
    for path in ("/v1/completions", "/v1/files"):
        host, port = service.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            lines = [
                f"POST {path} HTTP/1.1",
                f"Host: {host}",
                *(f"{name}: {value}" for name, value in declared.items()),
            ]
            raw.sendall(("\r\n".join(lines) + "\r\n\r\n{").encode())
            assert b"413" in raw.recv(4096).split(b"\r\n")[0], path
    answer = web.post("/v1/completions", content=(b" " * 65536 for _ in range(200)))  # of no stated length
    assert (answer.status_code == 413 and "expected" in answer.text) or "longer than" in answer.text


@pytest.mark.parametrize(
    "content", [b"", b"[", b"null", b"3", b'"x"', b"[1]", b"{}", b"\xff\xfe", b"[" * 20000, b'{"a":NaN}']
)
def test_what_is_no_request_is_refused_in_words(web, content):
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/jobs", "/v1/comparisons"):
        answer = web.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422) and len(answer.json()["error"]["message"]) > 10, (path, answer.text)


def test_no_request_can_forge_a_line_of_the_log(service, web):
    web.get("/v1/files/x%0a%7b%22level%22%3a%22info%22%2c%22forged%22%3atrue%7d", headers={"User-Agent": "forged"})
    web.request("FORGED", "/v1/models", headers={"Authorization": "Bearer secret-forged"})
    lines = [line for line in service.output.read_text().splitlines() if line.startswith("{")]
    assert lines and not [line for line in lines if "forged" in line.lower()]
    assert {"time", "level", "message", "route", "status", "seconds", "request", "method", "key"} <= json.loads(
        lines[-1]
    ).keys()


def test_every_answer_carries_its_id_and_no_fault_is_shown(web):
    answer = web.get("/healthz")
    assert answer.json() == {"status": "ok"} and re.fullmatch(r"req-[0-9a-f]{16}", answer.headers["x-request-id"])
    assert "server" not in answer.headers
    figures = web.get("/metrics").text
    assert 'graft_requests_total{method="GET",route="/healthz",status="200"}' in figures


@pytest.mark.long
def test_keys_say_who_may_read_and_who_may_train(tmp_path):
    save_tiny_base(tmp_path / "tiny")
    book = KeyBook(tmp_path / "service")
    secrets = {"read": book.add("reader", "read"), "train": book.add("trainer", "train")}
    assert not any(secret in (tmp_path / "service/keys.json").read_text() for secret in secrets.values())
    with started(tmp_path, "--models", '["tiny=tiny"]') as service, httpx.Client(base_url=service.address) as web:
        upload = {"files": {"file": ("t.txt", b"a text")}, "data": {"purpose": "fine-tune"}}

        def status(method: str, path: str, key: str | None, **body) -> int:
            headers = {"Authorization": f"Bearer {secrets.get(key, key)}"} if key else {}
            return web.request(method, path, headers=headers, **body).status_code

        assert [status("GET", "/v1/models", key) for key in (None, "graft-wrong", "read", "train")] == [
            401,
            401,
            200,
            200,
        ]
        assert [status("POST", "/v1/files", key, **upload) for key in (None, "read", "train")] == [401, 403, 200]
        assert [status("POST", "/v1/fine_tuning/jobs", key, json={}) for key in (None, "read", "train")] == [
            401,
            403,
            400,
        ]
        assert status("GET", "/healthz", None) == status("GET", "/readyz", None) == 200
        book.remove("trainer")  # counts from the next request on
        assert status("GET", "/v1/models", "train") == 401
        assert not any(secret in service.output.read_text() for secret in secrets.values())
