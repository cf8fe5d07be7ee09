"""A stream ends what it comes from, however it ended."""

import asyncio

from apps.shapes.server_sent import stream
from tests import own_loop


async def _events(under_way: list[str]):
    try:
        yield {"said": "first"}
        yield {"said": "second"}
    finally:
        under_way.append("generator ended")


def _send_to_a_client_that_leaves_after(messages: int, spec_version: str) -> list[str]:
    """What was ended when the client took so many messages and then was gone."""
    ended: list[str] = []
    taken = 0

    async def receive():
        await asyncio.sleep(0 if messages == 0 else 30)
        return {"type": "http.disconnect"}

    async def send(_message):
        nonlocal taken
        if taken >= messages:
            raise OSError("gone")
        taken += 1

    async def answer():
        response = stream(_events(ended), lambda: ended.append("closed"))
        await response({"type": "http", "asgi": {"spec_version": spec_version}}, receive, send)

    try:
        own_loop.run(answer())
    except Exception as error:
        ended.append(type(error).__name__)
    return ended


def test_a_client_that_leaves_before_the_first_line_ends_what_was_asked():
    for spec_version in ("2.0", "2.4"):
        for messages in (0, 1, 2, 9):
            assert "closed" in _send_to_a_client_that_leaves_after(messages, spec_version), (spec_version, messages)
