"""The way into a queue: who comes when it is full is refused before the application is asked; room is given back."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from apps.guarding.entrance import Entrance
from apps.guarding.guard import Guard, Refusal, Rules
from tests import own_loop

MOST_WAITING, AT_ONCE = 3, 5


class _Queue:
    """An application that holds each request until it is let go."""

    def __init__(self) -> None:
        self.asked, self.waiting, self.open = 0, 0, asyncio.Event()
        app = Starlette(routes=[Route("/join", self.join, methods=["POST"])])
        entrance = Entrance(lambda: self.waiting, MOST_WAITING, AT_ONCE)
        rules = Rules(
            hosts=frozenset({"here"}),
            takes={"/join": lambda _: None},
            entrances={"/join": entrance.pass_through},
            body_bytes=100,
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(Guard(app, rules)), base_url="http://here")

    async def join(self, request: Request) -> JSONResponse:
        self.asked += 1
        await self.open.wait()
        return JSONResponse({})

    def post(self) -> asyncio.Task[httpx.Response]:
        return asyncio.create_task(self.client.post("/join", json={}))


def test_what_is_more_than_is_let_in_at_once_is_refused_in_words_while_the_others_are_under_way():
    async def burst() -> tuple[list[int], int, dict]:
        queue = _Queue()
        asked, refused = [queue.post() for _ in range(AT_ONCE + 2)], list[httpx.Response]()
        while len(refused) < 2:
            await asyncio.sleep(0.01)
            refused = [one.result() for one in asked if one.done()]
        queue.open.set()
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*asked, queue.post()))
        return statuses, queue.asked, {**refused[0].json(), "retry": refused[0].headers["retry-after"]}

    statuses, reached, words = own_loop.run(burst())
    assert statuses == [200] * (AT_ONCE + 1) + [503, 503] and reached == AT_ONCE + 1
    assert words["detail"].startswith("Queue is full. 3 requests may wait") and words["retry"] == "10"


def test_nobody_is_let_in_while_as_many_wait_as_may():
    waiting = MOST_WAITING
    entrance = Entrance(lambda: waiting, MOST_WAITING, AT_ONCE)
    with pytest.raises(Refusal, match="Queue is full"), entrance.pass_through():
        pass
    waiting -= 1
    with entrance.pass_through():
        assert entrance.coming == 1
    assert entrance.coming == 0
