"""A burst of askers at the studio's page: who is refused after how long, and when all others have their replies.

    python -m apps.studio --port 7860 &
    python -m tests.benchmarks.studio_burst --url http://127.0.0.1:7860

Each asker joins Gradio's queue and reads its stream as the page does. All are in one event loop of this process, and
their connections are open before the clock starts: what is timed is the server.
"""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from configs import run_entry

JOIN, STREAM = "/gradio_api/queue/join", "/gradio_api/queue/data"
SHARED = ("", 2, "", 0, 0, 1, 0)
"""Dialogue, sides, system, temperature, top-k, top-p, seed: greedy, two sides."""
MODELS = (10, 15)
"""Where in the form the models of the first two sides stand."""
SECONDS_OF_REST = 0.2


@dataclass(frozen=True, kw_only=True)
class BurstSettings:
    """What is asked, and by how many."""

    url: str = "http://127.0.0.1:7860"
    """Where the studio is."""
    askers: int = 50
    """Who ask at the same moment."""
    reply_tokens: int = 200
    """Longest reply."""
    prompt: str = "What does abs do, and what does it give for a complex number?"
    """Asked by all, each with its own number behind it."""
    rounds: int = 1
    """Bursts, one after another."""
    process: int | None = None
    """The server's, to say what a burst costs it, in seconds of processor."""


@dataclass
class Burst:
    """What came back of one burst."""

    refused: list[float] = field(default_factory=list)
    """Seconds to each refusal."""
    answered: list[float] = field(default_factory=list)
    """Seconds to each whole reply."""
    first: list[float] = field(default_factory=list)
    """Seconds to the first state of each reply."""
    states: int = 0
    stream_bytes: int = 0
    words: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)

    def take(self, message: dict[str, Any], seconds: float) -> None:
        """Counts a message of a stream."""
        if message["msg"] == "process_generating":
            self.states += 1
            if message["event_id"] not in self.begun:
                self.begun.add(message["event_id"])
                self.first.append(seconds)
        elif message["msg"] == "process_completed":
            self.answered.append(seconds)
            if not message["success"]:
                self.words.add(json.dumps(message["output"]))

    def __str__(self) -> str:
        """On one line."""
        refused = (
            f"{len(self.refused)} refused, median {_middle(self.refused):.3f} s, slowest {_last(self.refused):.3f} s"
        )
        answered = (
            f"{len(self.answered)} answered, first {_middle(self.first):.2f} s, last {_last(self.answered):.1f} s"
        )
        return f"{refused}; {answered}; {self.states} states, {self.stream_bytes / 1e6:.1f} MB; {sorted(self.words)}"


def main(settings: BurstSettings) -> None:
    """Asks in bursts and prints what came back."""
    server = psutil.Process(settings.process) if settings.process else None
    for _ in range(settings.rounds):
        before = server.cpu_times() if server else None
        print(asyncio.run(burst(settings)), flush=True)
        if server and before:
            now = server.cpu_times()
            print(f"server: {now.user - before.user + now.system - before.system:.1f} s of processor", flush=True)


async def burst(settings: BurstSettings) -> Burst:
    """All ask at once, over connections that are open already."""
    async with httpx.AsyncClient(
        base_url=settings.url, timeout=600, limits=httpx.Limits(max_connections=None)
    ) as client:
        form = await _form(client)
        found, address = Burst(), urlsplit(settings.url)
        askers = []
        for number in range(settings.askers):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            session = f"burst-{time.time_ns()}"
            prompt = f"{settings.prompt} {number}"
            call = {"session_hash": session, **form, "data": [prompt, *SHARED, settings.reply_tokens, *form["data"]]}
            body = json.dumps(call).encode()
            head = f"POST {JOIN} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            askers.append((session, reader, writer, body))
        await asyncio.sleep(SECONDS_OF_REST)
        began = time.perf_counter()
        for _, _, writer, body in askers:
            writer.write(body)
        await asyncio.gather(*(_asker(client, *asker[:3], began, found) for asker in askers))
    return found


async def _form(client: httpx.AsyncClient) -> dict[str, Any]:
    """The number of the function that asks, and the sides of its form with the models that the page shows first."""
    config = (await client.get("/config")).json()
    ask = next(one for one in config["dependencies"] if one["api_name"] == "ask")
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    first, second = (values[ask["inputs"][place]] for place in MODELS)
    sides = [(name, "auto", 0, 1, 0) for name in (first, second, first, first)]
    return {"fn_index": ask["id"], "data": [False, *(value for side in sides for value in side)]}


async def _asker(
    client: httpx.AsyncClient,
    session: str,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    began: float,
    found: Burst,
) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    seconds = time.perf_counter() - began
    if not head.startswith("HTTP/1.1 200"):
        found.refused.append(seconds)
        found.words.add(json.loads((await reader.read(1000)).split(b"\r\n")[-1] or b"{}").get("detail", head))
        writer.close()
        return
    async with client.stream("GET", STREAM, params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                found.stream_bytes += len(line)
                found.take(json.loads(line[5:]), time.perf_counter() - began)
    writer.close()


def _middle(seconds: list[float]) -> float:
    return statistics.median(seconds) if seconds else float("nan")


def _last(seconds: list[float]) -> float:
    return max(seconds, default=float("nan"))


if __name__ == "__main__":
    run_entry(main, BurstSettings)
