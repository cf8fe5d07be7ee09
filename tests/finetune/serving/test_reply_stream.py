"""A reply as it is read: in a thread, in an event loop, closed, and ended by an error."""

import asyncio
import threading
from contextlib import closing

import pytest

from configs import InputError
from finetune.serving.reply_request import Ended, Piece, ReplyRequest
from finetune.serving.reply_stream import ReplyStream
from scratch_models.decoding.sampling_settings import Sampling
from tests import own_loop

PIECES: list[Piece | Ended] = [
    Piece(0, "a"),
    Piece(1, "b"),
    Ended(1, "stop", 2, 3),
    Piece(0, "c"),
    Ended(0, "length", 2, 3),
]


def given_by_a_thread(stream: ReplyStream) -> threading.Thread:
    def give() -> None:
        for piece in PIECES:
            stream.put(piece)

    thread = threading.Thread(target=give)
    thread.start()
    return thread


def test_a_thread_and_an_event_loop_read_the_same():
    stream = ReplyStream(3, choices=2)
    given_by_a_thread(stream)
    assert list(stream) == PIECES

    async def read() -> list[Piece | Ended]:
        stream = ReplyStream(3, choices=2)
        reading = asyncio.ensure_future(_gather(stream))
        await asyncio.sleep(0)  # it waits before anything comes
        given_by_a_thread(stream)
        return await reading

    assert own_loop.run(read()) == PIECES


async def _gather(stream: ReplyStream) -> list[Piece | Ended]:
    return [piece async for piece in stream]


def test_a_stream_that_is_closed_gives_nothing_more_and_lets_its_reader_go():
    stream = ReplyStream(3, choices=2)
    with closing(stream):
        stream.put(PIECES[0])
        assert next(stream) == PIECES[0]
        threading.Timer(0.05, stream.close).start()
        assert list(stream) == []
    stream.put(PIECES[1])
    assert stream.is_over and list(stream) == []


def test_an_error_comes_after_what_was_said():
    stream = ReplyStream(3, choices=1)
    stream.put(PIECES[0])
    stream.fail(InputError("broken"))
    assert next(stream) == PIECES[0]
    with pytest.raises(InputError, match="broken"):
        next(stream)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt_ids": ()}, "0 tokens"),
        ({"most_tokens": 0}, "most_tokens is 0"),
        ({"choices": 0}, "choices is 0"),
        ({"logprobs": 21}, "logprobs is 21"),
        ({"stop_texts": ("x", "")}, "empty text"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        ReplyRequest(**{"prompt_ids": (1,), "most_tokens": 1, "sampling": Sampling(temperature=0), **wrong})
