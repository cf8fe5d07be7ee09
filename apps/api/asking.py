"""Replies under way: put to the models, merged, watched for clients that have gone, ended in time."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from apps.api.parts import Parts
from apps.shapes.bodies import ReplyBody
from apps.shapes.errors import ApiError
from finetune.service.model_names import NamedModel
from finetune.serving.reply_request import Ended, Full, Piece, ReplyRequest, TokenScore
from finetune.serving.reply_stream import ReplyStream
from scratch_models.decoding.sampling_settings import Sampling

if TYPE_CHECKING:
    from finetune.serving.served_model import EncodedPrompt

LOOKS_PER_SECOND = 5
SEEDS = 2**31
RETRY_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class ReplyLimits:
    """Where replies end, and what is told of their tokens."""

    model: NamedModel
    most_tokens: int
    logprobs: int | None


@dataclass(frozen=True)
class WholeReply:
    """One choice, ended."""

    text: str
    tokens: Sequence[TokenScore]
    ended: Ended


@dataclass
class Asked:
    """Prompts that are being answered, each by as many choices."""

    parts: Parts
    model: NamedModel
    streams: list[ReplyStream]
    began: float
    is_closed: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(stream.prompt_tokens for stream in self.streams)

    @property
    def choices(self) -> int:
        """Replies to all prompts together."""
        return sum(stream.choices for stream in self.streams)

    def close(self) -> None:
        """Ends what is still under way, and makes room for others."""
        for stream in self.streams:
            stream.close()
        if not self.is_closed:
            self.is_closed = True
            self.parts.under_way[self.model.place] -= 1

    async def events(self) -> AsyncIterator[tuple[int, Piece | Ended]]:
        """What comes, with the number of its choice over all prompts.

        Raises:
            ApiError: it took longer than a reply may.
        """
        limit, first = self.parts.limits.reply_seconds, True
        try:
            async with asyncio.timeout(limit - (time.monotonic() - self.began)):
                async for number, event in _merged(self.streams):
                    if first:
                        seconds = time.monotonic() - self.began
                        self.parts.figures.first_token.labels(self.model.name).observe(seconds)
                        first = False
                    if isinstance(event, Ended):
                        self._count(event)
                    yield number, event
        except TimeoutError:
            raise ApiError(504, f"the reply took longer than {limit:g} seconds: ask for fewer tokens") from None
        finally:
            self.close()

    async def whole(self) -> list[WholeReply]:
        """All replies, once each has ended.

        Raises:
            ApiError: it took longer than a reply may, or the client has gone.
        """
        texts, tokens = ["" for _ in range(self.choices)], [list[TokenScore]() for _ in range(self.choices)]
        ended: dict[int, Ended] = {}
        async for number, event in self.events():
            if isinstance(event, Ended):
                ended[number] = event
            else:
                texts[number] += event.text
                tokens[number] += event.tokens
        if len(ended) < self.choices:
            raise ApiError(499, "the client has gone")
        return [WholeReply(texts[number], tokens[number], ended[number]) for number in range(self.choices)]

    def _count(self, ended: Ended) -> None:
        tokens = self.parts.figures.tokens
        tokens.labels(self.model.name, "generated").inc(ended.completion_tokens)
        if ended.choice == 0:
            tokens.labels(self.model.name, "read").inc(ended.prompt_tokens)


async def ask(
    parts: Parts, body: ReplyBody, encode: "Callable[[], Sequence[EncodedPrompt]]", limits: ReplyLimits
) -> Asked:
    """Puts prompts to a model, once they are `encode`d, which waits for the model.

    Raises:
        ApiError: too many wait already.
        InputError: the request cannot be answered by this model.
    """
    _enter(parts, limits.model.place)
    asked = Asked(parts, limits.model, [], time.monotonic())
    try:
        await run_in_threadpool(_put, asked, body, encode, limits)
    except Full as full:
        asked.close()
        raise ApiError(429, str(full), code="queue_full", retry=full.seconds) from None
    except BaseException:
        asked.close()
        raise
    return asked


def _enter(parts: Parts, place: str) -> None:
    """Counts a request, unless there are so many of its model already that it would only be refused later."""
    most = parts.limits.requests_of_a_model
    if parts.under_way[place] >= most:
        said = f"model: {most} requests of it are under way or wait, and no more may: come again in {RETRY_SECONDS} s"
        raise ApiError(429, said, code="queue_full", retry=RETRY_SECONDS)
    parts.under_way[place] += 1


def _put(asked: Asked, body: ReplyBody, encode: "Callable[[], Sequence[EncodedPrompt]]", limits: ReplyLimits) -> None:
    sampling = _sampling(body)
    for prompt in encode():
        request = ReplyRequest(
            prompt_ids=prompt.ids,
            most_tokens=limits.most_tokens,
            sampling=sampling,
            stop_ids=prompt.stop_ids,
            stop_texts=body.stop_texts,
            choices=body.n or 1,
            logprobs=limits.logprobs,
            calculator=prompt.calculator,
        )
        asked.streams.append(asked.parts.pool.ask(limits.model.place, request))
    if asked.is_closed:  # while the model was waited for
        asked.close()


@asynccontextmanager
async def watched(request: Request, asked: Asked) -> AsyncIterator[None]:
    """Ends the replies once the client has gone, or at the end."""

    async def look() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(1 / LOOKS_PER_SECOND)
        asked.close()

    watching = asyncio.create_task(look())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        asked.close()


def new_id(prefix: str) -> str:
    """A fresh id of OpenAI's shape."""
    return f"{prefix}-{secrets.token_hex(12)}"


def most_tokens(parts: Parts, asked_for: int | None, field: str) -> int:
    """The most tokens of a reply.

    Raises:
        ApiError: the request asks for more than may be.
    """
    most = parts.limits.reply_tokens
    if asked_for is not None and asked_for > most:
        raise ApiError(400, f"{field}: found {asked_for:,}, expected at most {most:,}", param=field)
    return asked_for or most


def _sampling(body: ReplyBody) -> Sampling:
    seed = secrets.randbelow(SEEDS) if body.seed is None else body.seed
    temperature = 1.0 if body.temperature is None else body.temperature
    return Sampling(temperature=temperature, top_p=1.0 if body.top_p is None else body.top_p, seed=seed)


async def _merged(streams: Sequence[ReplyStream]) -> AsyncIterator[tuple[int, Piece | Ended]]:
    """What comes from any of the streams, with the number of its choice over all of them."""
    arrived: asyncio.Queue[tuple[int, Piece | Ended | Exception | None]] = asyncio.Queue()

    async def listen(number: int, stream: ReplyStream) -> None:
        try:
            async for event in stream:
                arrived.put_nowait((number * stream.choices + event.choice, event))
            arrived.put_nowait((number, None))
        except Exception as error:
            arrived.put_nowait((number, error))

    listening = [asyncio.create_task(listen(*numbered)) for numbered in enumerate(streams)]
    try:
        left = len(listening)
        while left:
            number, event = await arrived.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                left -= 1
            else:
                yield number, event
    finally:
        for one in listening:
            one.cancel()
