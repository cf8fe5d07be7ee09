"""How a served model answers many at once: beside the decode loop, beside one client alone, and for a while.

    python -m tests.benchmarks.serving --models smollm2,runs/sft-1,runs/sft-2,runs/sft-3 --data gsm8k_train.jsonl

Models are a base and adapters on it. Each prints one line: tokens a second of eight clients against a batch of eight
(taking turns); the time to the first token at eight clients against one alone; how soon a row leaves whose client has
gone; a burst of two hundred; sixteen clients over all models, a tenth of whom leave, whose greedy answers are known.
"""

import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from configs import run_entry
from finetune.conversations.messages import Message
from finetune.export.opened_sides import open_local
from finetune.replies.generation import generate_ids
from finetune.serving.model_pool import ModelPool
from finetune.serving.reply_request import Ended, Full, Piece, ReplyRequest
from finetune.serving.reply_stream import ReplyStream
from finetune.serving.request_queue import BatchLimits
from scratch_models.decoding.sampling_settings import Sampling

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is asked, and for how long."""

    models: str
    """A base and adapters on it, with commas between."""
    data: str
    """JSONL with questions."""
    prompts: int = 8
    """Questions put to each model."""
    reply_tokens: int = 32
    """Longest reply."""
    rounds: int = 3
    """How often the two sides of a ratio take turns."""
    seconds: float = 20.0
    """How long sixteen clients ask."""
    prompt_ids_at_once: int = BatchLimits.prompt_ids_at_once
    """Prompt ids that are read between two steps."""


@dataclass
class Served:
    """The pool, its models, prompts and what is known of them."""

    pool: ModelPool
    models: list[str]
    prompts: dict[str, list[ReplyRequest]]
    texts: dict[str, list[str]]

    def ask(self, name: str, number: int, most_tokens: int) -> ReplyStream:
        """Puts one of the prompts to a model; no id ends the reply."""
        prompt = self.prompts[name][number].prompt_ids
        return self.pool.ask(name, ReplyRequest(prompt_ids=prompt, most_tokens=most_tokens, sampling=GREEDY))


def at_once(clients: int, client: Callable[[int], None]) -> float:
    """The seconds until all clients are done."""
    threads = [threading.Thread(target=client, args=[number]) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def whole(stream: ReplyStream) -> str:
    """The text of a reply."""
    return "".join(event.text for event in stream if isinstance(event, Piece))


def rates(served: Served, given: Given) -> None:
    """Tokens a second of eight clients, of the base alone and over all models, against the decode loop's batch."""
    base, tokens = served.models[0], 8 * given.reply_tokens
    model = open_local(base).model
    asked = [list(served.prompts[base][n % given.prompts].prompt_ids) for n in range(8)]
    took: dict[str, list[float]] = {"loop": [], "base": [], "all": []}
    for _ in range(1 + given.rounds):
        began = time.perf_counter()
        generate_ids(model, asked, max_new_tokens=given.reply_tokens, stop_ids=(), sampling=GREEDY)
        took["loop"].append(time.perf_counter() - began)
        for key, names in (("base", [base]), ("all", served.models)):

            def client(number: int, names: Sequence[str] = tuple(names)) -> None:
                whole(served.ask(names[number % len(names)], number % given.prompts, given.reply_tokens))

            took[key].append(at_once(8, client))
    loop, of_base, of_all = (tokens / statistics.median(seconds[1:]) for seconds in took.values())
    print(
        f"tokens/s: batch 8 of the loop {loop:.1f}; 8 clients of the base {of_base:.1f} ({of_base / loop:.2f} x), over "
        f"{len(served.models)} models {of_all:.1f} ({of_all / loop:.2f} x)",
        flush=True,
    )


def first_tokens(served: Served, given: Given, clients: int, turns: int) -> list[float]:
    """The seconds to the first token of every request, of clients that ask again as soon as they are answered."""
    found: list[float] = []

    def client(number: int) -> None:
        draw = random.Random(number)
        time.sleep(draw.random() * 0.5 if clients > 1 else 0)
        for _ in range(turns):
            began = time.perf_counter()
            name = draw.choice(served.models)
            stream = served.ask(name, draw.randrange(given.prompts), draw.randint(8, 2 * given.reply_tokens))
            next(stream)
            found.append(time.perf_counter() - began)
            whole(stream)

    at_once(clients, client)
    return sorted(found)


def waits(served: Served, given: Given) -> None:
    """The time to the first token."""
    alone: list[float] = []
    many: list[float] = []
    for _ in range(given.rounds):
        alone += first_tokens(served, given, 1, 6)
        many += first_tokens(served, given, 8, 4)
    of_one, late = statistics.median(alone), sorted(many)[int(0.95 * len(many))]
    print(
        f"first token: alone {of_one * 1e3:.0f} ms, at 8 clients median {statistics.median(many) * 1e3:.0f} ms, p95 "
        f"{late * 1e3:.0f} ms ({late / of_one:.2f} x the median, {late / sorted(alone)[int(0.95 * len(alone))]:.2f} x "
        "the p95 of one alone)",
        flush=True,
    )


def leaving(served: Served) -> None:
    """How soon a row leaves."""
    found = []
    for _ in range(5):
        stream = served.ask(served.models[-1], 0, 400)
        others = [served.ask(name, 0, 400) for name in served.models]
        for one in (stream, *others):
            next(one)
        stream.close()
        began = time.perf_counter()
        while served.pool.state().batches[0].rows > len(others):
            time.sleep(0.001)
        found.append(time.perf_counter() - began)
        for other in others:
            other.close()
    print(f"client gone: the row left after {max(found) * 1e3:.0f} ms at most", flush=True)


def burst(served: Served, given: Given) -> None:
    """Two hundred requests at once."""
    streams, refusals, said = list[ReplyStream](), list[float](), ""
    for number in range(200):
        began = time.perf_counter()
        try:
            streams.append(served.ask(served.models[number % len(served.models)], number % given.prompts, 8))
        except Full as full:
            refusals.append(time.perf_counter() - began)
            said = str(full)
    began = time.perf_counter()
    for stream in streams:
        whole(stream)
    slowest = max(refusals, default=0.0) * 1e3
    print(
        f"burst of 200: {len(refusals)} refused within {slowest:.1f} ms ({said}), the others done in "
        f"{time.perf_counter() - began:.1f} s",
        flush=True,
    )


def for_a_while(served: Served, given: Given) -> None:
    """Sixteen clients."""
    wrong, lost, left, done = [0], [0], [0], [0]
    process, memory = psutil.Process(), list[float]()
    until = time.monotonic() + given.seconds

    def client(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() < until:
            name, asked = draw.choice(served.models), draw.randrange(given.prompts)
            stream = served.ask(name, asked, given.reply_tokens)
            if draw.random() < 0.1:
                next(stream)
                stream.close()
                left[0] += 1
                continue
            events = list(stream)
            text = "".join(event.text for event in events if isinstance(event, Piece))
            lost[0] += not isinstance(events[-1], Ended)
            wrong[0] += text != served.texts[name][asked]
            done[0] += 1

    def watch() -> None:
        while time.monotonic() < until:
            memory.append(process.memory_info().rss)
            time.sleep(0.5)

    threading.Thread(target=watch).start()
    at_once(16, client)
    early = max(memory[: max(1, len(memory) // 4)])
    print(
        f"16 clients, {given.seconds:.0f} s: {done[0]} answered, {left[0]} left, {lost[0]} lost, {wrong[0]} mixed; "
        f"memory {max(memory) / early - 1:+.1%} of what it was in the first quarter ({early / 1e6:,.0f} MB)",
        flush=True,
    )


def serve(given: Given) -> Served:
    """Everything in memory, and what every model answers alone."""
    models = given.models.split(",")
    pool = ModelPool(limits=BatchLimits(prompt_ids_at_once=given.prompt_ids_at_once))
    lines = Path(given.data).read_text(encoding="utf-8").splitlines()[: given.prompts]
    served = Served(pool, models, {}, {})
    for name in models:
        in_chat, questions = pool.open(name).result().side.knows_chat, [json.loads(line)["question"] for line in lines]
        encoded = [
            pool.encode_chat(name, [Message("user", question)]) if in_chat else pool.encode_text(name, question)
            for question in questions
        ]
        served.prompts[name] = [ReplyRequest(prompt_ids=one.ids, most_tokens=1, sampling=GREEDY) for one in encoded]
        side, ids = open_local(name), [list(one.ids) for one in encoded]
        replies = generate_ids(side.model, ids, max_new_tokens=given.reply_tokens, stop_ids=(), sampling=GREEDY)
        decoder = side.tokenizer.backend_tokenizer
        served.texts[name] = [decoder.decode(list(reply.ids), skip_special_tokens=False) for reply in replies]
    print(f"{len(models)} models in {len(pool.state().batches)} batch(es)", flush=True)
    return served


def main(given: Given) -> None:
    """Prints all lines."""
    served = serve(given)
    rates(served, given)
    waits(served, given)
    leaving(served)
    burst(served, given)
    for_a_while(served, given)
    served.pool.close()


if __name__ == "__main__":
    run_entry(main, Given)
