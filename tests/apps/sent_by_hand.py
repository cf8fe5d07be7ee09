"""Requests to the studio without its page."""

import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.apps.served import Served

SHARED = ("what is abs?", "", 2, "", 0.8, 0, 1, 0, 5, False)
"""Prompt, dialogue, sides, system, temperature, top-k, top-p, seed, most tokens, whether each side has its own."""
OF_SIDES = ("tiny-base", "raw", 0, 1, 0, "sft-7", "chat", 0, 1, 0, *("tiny-base", "auto", 0, 1, 0) * 2)
FORM = [*SHARED, *OF_SIDES]
TOKENS = 8
REQUESTS = 80
JOIN, RUN, CANCEL = "/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/cancel"
Answer = tuple[int, str, dict[str, str]]


def send(
    served: Served,
    method: str,
    path: str,
    body: str | bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Status, words and headers of the answer."""
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=30)
    connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    try:
        words = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        words = text
    return answer.status, words if isinstance(words, str) else json.dumps(words), dict(answer.headers)


def asking_index(served: Served) -> int:
    """Gradio's number of the function that asks all sides."""
    config = json.loads(send(served, "GET", "/config")[1])
    return next(event["id"] for event in config["dependencies"] if event["api_name"] == "ask")


def call(index: int, **changed: object) -> dict[str, Any]:
    """What the page sends to ask all sides."""
    return {"data": FORM, "fn_index": index, "session_hash": "attack", **changed}


def fill_queue(served: Served, index: int) -> tuple[list[str], list[Answer]]:
    """Asks for long replies many times: the events that wait, and the answers that the others got."""
    answers = [
        send(served, "POST", JOIN, json.dumps(call(index, data=[*FORM[:TOKENS], 1024, *FORM[TOKENS + 1 :]])))
        for _ in range(REQUESTS)
    ]
    accepted = [json.loads(words)["event_id"] for status, words, _ in answers if status == 200]
    return accepted, [answer for answer in answers if answer[0] == 503]


def empty_queue(served: Served, index: int, events: list[str]) -> None:
    """Cancels what waits, the last first."""
    for event in reversed(events):
        send(served, "POST", CANCEL, json.dumps({"session_hash": "attack", "fn_index": index, "event_id": event}))
