"""The service under load, through HTTP and the official client: who waits how long, who is refused, what is mixed up.

    python -m apps.service --models MODEL ... &
    python -m tests.benchmarks.service --url http://127.0.0.1:8000/v1 --data gsm8k_train.jsonl

Every model that the server lists is asked. Greedy answers are known from asking each question alone first; then sixteen
clients ask for a while, a tenth of the requests are left in the middle, and every whole answer must be the known one.
"""

import asyncio
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from configs import run_entry


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """What is asked, and for how long."""

    url: str = "http://127.0.0.1:8000/v1"
    """Where the service is."""
    data: str
    """JSONL with a `question` in each line."""
    questions: int = 4
    """Questions put to each model."""
    reply_tokens: int = 24
    """Longest reply."""
    clients: int = 16
    """Who ask at the same time."""
    seconds: float = 60.0
    """How long."""


class Load:
    """The clients and what they know."""

    def __init__(self, settings: LoadSettings) -> None:
        self.settings = settings
        self.client = openai.AsyncOpenAI(base_url=settings.url, api_key="none", max_retries=0, timeout=600)
        lines = Path(settings.data).read_text(encoding="utf-8").splitlines()[: settings.questions]
        self.questions = [json.loads(line)["question"][:400] for line in lines]
        self.models: list[str] = []
        self.plain: set[str] = set()
        self.known: dict[tuple[str, str], str] = {}
        self.found: Counter[str] = Counter()
        self.waited: list[float] = []

    async def ask(self, model: str, question: str, *, leaves: bool = False) -> tuple[str, float]:
        """The text of a streamed answer, and the seconds to its first chunk."""
        began, first, text = time.perf_counter(), 0.0, ""
        stream = await self._begin(model, question)
        async with stream:
            async for chunk in stream:
                choice = chunk.choices[0] if chunk.choices else None
                said = choice and (choice.text if model in self.plain else choice.delta.content)
                if said:
                    first = first or time.perf_counter() - began
                    text += said
                    if leaves:
                        break
        return text, first

    async def _begin(self, model: str, question: str) -> Any:
        """The stream of an answer; a model without a chat format goes on with the question as a text."""
        asked = {"model": model, "temperature": 0, "stream": True}
        if model not in self.plain:
            messages, most = [{"role": "user", "content": question}], self.settings.reply_tokens
            try:
                create: Any = self.client.chat.completions.create
                return await create(**asked, messages=messages, max_completion_tokens=most)
            except openai.BadRequestError as error:
                if "no chat format" not in str(error):
                    raise
                self.plain.add(model)
        begin: Any = self.client.completions.create
        return await begin(**asked, prompt=question, max_tokens=self.settings.reply_tokens)

    async def know(self) -> list[float]:
        """Asks each question alone; the seconds to the first chunk of each."""
        self.models = [model.id async for model in self.client.models.list()]
        alone = []
        for model in self.models:
            await self.ask(model, self.questions[0])  # the first request reads the model
            for question in self.questions:
                self.known[model, question], first = await self.ask(model, question)
                alone.append(first)
        return alone

    async def visit(self, number: int, until: float) -> None:
        """One client, until the time is over."""
        draw = random.Random(number)
        while time.perf_counter() < until:
            model, question, leaves = draw.choice(self.models), draw.choice(self.questions), draw.random() < 0.1
            try:
                text, first = await self.ask(model, question, leaves=leaves)
            except openai.RateLimitError:
                self.found["refused"] += 1
                await asyncio.sleep(0.5)
                continue
            except openai.OpenAIError as error:
                self.found[f"lost: {error}"[:100]] += 1
                continue
            self.waited.append(first)
            right = self.known[model, question]
            self.found["left" if leaves else "equal" if text == right else "mixed"] += 1

    async def burst(self, requests: int) -> tuple[list[float], float]:
        """The seconds to each refusal of so many requests at once, and until all others were answered."""
        refused: list[float] = []

        async def one(number: int) -> None:
            began = time.perf_counter()
            try:
                await self.ask(self.models[0], self.questions[number % len(self.questions)])
            except openai.RateLimitError as error:
                refused.append(time.perf_counter() - began)
                assert int(error.response.headers["retry-after"]) >= 1 and "wait" in str(error)

        began = time.perf_counter()
        await asyncio.gather(*[one(number) for number in range(requests)])
        return refused, time.perf_counter() - began


async def measure(settings: LoadSettings) -> None:
    """Prints a line a figure."""
    load = Load(settings)
    alone = statistics.median(await load.know())
    print(
        f"{len(load.models)} models, {len(load.known)} known answers; alone the first token after {alone:.3f} s",
        flush=True,
    )
    for clients, seconds in ((8, settings.seconds / 3), (settings.clients, settings.seconds)):
        load.found.clear()
        load.waited.clear()
        until = time.perf_counter() + seconds
        await asyncio.gather(*[load.visit(number, until) for number in range(clients)])
        late = sorted(load.waited)[int(0.95 * len(load.waited))]
        print(
            f"{clients} clients, {seconds:.0f} s: {dict(load.found)}; first token p95 {late:.2f} s "
            f"({late / alone:.1f} x)",
            flush=True,
        )
    refused, whole = await load.burst(200)
    slowest = f"the last after {max(refused):.3f} s" if refused else ""
    print(f"burst of 200: {len(refused)} refused, {slowest}; the others answered after {whole:.1f} s", flush=True)
    began = time.perf_counter()
    await load.ask(load.models[0], load.questions[0])
    print(f"the next answer after {time.perf_counter() - began:.2f} s", flush=True)


def main(settings: LoadSettings) -> None:
    """Measures."""
    asyncio.run(measure(settings))


if __name__ == "__main__":
    run_entry(main, LoadSettings)
