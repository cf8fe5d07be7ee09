"""What the page's own scripts send to Gradio's queue, checked before Gradio reads it.

Gradio answers a request of another shape with an error that says nothing, or with a status 500.
"""

import reprlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import gradio as gr

from apps.guarding.entrance import Entrance
from configs import InputError

LONGEST_SESSION = 64
JOIN = "/gradio_api/queue/join"
CLOSED = tuple(
    f"/gradio_api/{name}"
    for name in ("call/", "custom_component/", "deep_link", "dev/", "file", "proxy=", "stream/", "upload", "vibe-code")
)
"""Starts of Gradio's paths for files, other clients and its own developers: the page uses none of them."""


def checks_of(page: gr.Blocks) -> Mapping[str, Callable[[object], object]]:
    """The paths that the page's scripts send something to, each with the check of what they send."""

    def check(body: object) -> None:
        check_call(body, page.fns)

    def check_stream(query: object) -> None:
        session = check_session(query)["session_hash"]
        if session not in page._queue.pending_messages_per_session:  # Gradio's stream breaks off with its error inside
            raise InputError("session_hash: nothing was asked under it, expected that of a question in the queue")

    return {
        JOIN: check,
        "/gradio_api/queue/data": check_stream,
        "/gradio_api/run/predict": check,
        "/gradio_api/cancel": check_session,
        "/gradio_api/reset": check_object,
    }


def entrances_of(page: gr.Blocks, most_waiting: int) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
    """The way into the page's queue: so many may wait, beside as many as begin at once."""
    queues = page._queue.event_queue_per_concurrency_id

    def waiting() -> int:
        """Events that cannot begin right away."""
        return sum(
            max(0, len(one.queue) + one.current_concurrency - (one.concurrency_limit or len(one.queue)))
            for one in queues.values()
        )

    at_once = page._queue.max_size or most_waiting
    return {JOIN: Entrance(waiting, most_waiting, at_once).pass_through}


def check_call(body: object, functions: Mapping[int, Any]) -> None:
    """Refuses a call of a function that the page does not have, or with other values than its fields hold.

    Raises:
        InputError: it names no function of the page, or its values are too few, too many, or no plain values.
    """
    fields = check_session(body)
    index = fields.get("fn_index")
    if isinstance(index, bool) or not isinstance(index, int) or index not in functions:
        names = ", ".join(map(str, functions))
        raise InputError(f"fn_index: found {reprlib.repr(index)}, expected one of {names}")
    if fields.get("batched"):
        raise InputError("batched: found true, expected none: the page asks one thing at a time")
    values, expected = fields.get("data"), len(functions[index].inputs)
    if not isinstance(values, list):
        raise InputError(f"data: found {_kind(values)}, expected an array of {expected} values")
    if len(values) != expected:
        raise InputError(f"data: found {len(values)} values, expected {expected}")
    for i, value in enumerate(values):
        if isinstance(value, dict | list):
            raise InputError(f"data[{i}]: found {_kind(value)}, expected text, a number, true, false or null")


def check_session(body: object) -> dict[str, Any]:
    """The fields of a request that names the page that it comes from.

    Raises:
        InputError: it is no object, or names no page.
    """
    fields = check_object(body)
    session = fields.get("session_hash")
    if not isinstance(session, str) or not 0 < len(session) <= LONGEST_SESSION:
        found = _kind(session) if not isinstance(session, str) else f"{len(session)} characters"
        raise InputError(f"session_hash: found {found}, expected text of 1 to {LONGEST_SESSION} characters")
    return fields


def check_object(body: object) -> dict[str, Any]:
    """The fields of a request.

    Raises:
        InputError: it is no object.
    """
    if not isinstance(body, dict):
        raise InputError(f"body: found {_kind(body)}, expected an object")
    return body


def _kind(value: object) -> str:
    """What JSON calls a value."""
    names = {dict: "an object", list: "an array", str: "text", bool: "true or false", type(None): "null or nothing"}
    return names.get(type(value), "a number")
