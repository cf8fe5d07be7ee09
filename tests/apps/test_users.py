"""Several users of the studio at once: each gets its own replies, none waits longer than the others."""

import random
import re
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client

from tests.apps.sent_by_hand import FORM, TOKENS
from tests.apps.served import Served

USERS, LEAVING = 8, 0.1
PROMPTS = tuple(f"what is number {n} of abs?" for n in range(6))
REPLY_TOKENS = 40
FAIR = 1.25
MORE_MEMORY = 1.05


@dataclass
class Seen:
    """What the users saw."""

    waited: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of each reply, by its prompt: a prompt's reply always has the same tokens, another's has others."""
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    left: int = 0

    @property
    def seconds(self) -> list[float]:
        """Of all replies."""
        return [second for seconds in self.waited.values() for second in seconds]

    @property
    def shares(self) -> list[float]:
        """The same as shares of what a reply to that prompt took on average: 1 where all users waited alike."""
        return [second / float(np.mean(seconds)) for seconds in self.waited.values() for second in seconds]


def ask(client: Client, prompt: str, tokens: int = REPLY_TOKENS):
    """Greedy, both sides."""
    form = [prompt, *FORM[1:4], 0, *FORM[5:TOKENS], tokens, *FORM[TOKENS + 1 :]]
    return client.submit(*form, api_name="/ask")


def replies(shown) -> tuple[str, str]:
    """What both sides said, without their figures, which differ from time to time."""
    first, second = (re.sub(r'<p class="status".*', "", shown[number], flags=re.DOTALL) for number in (1, 4))
    return first, second


def use(served: Served, known: dict[str, tuple[str, str]], seconds: float, seed: int, seen: Seen) -> None:
    """One user, who asks again and again and sometimes leaves in the middle."""
    client, draw, end = Client(served.address, verbose=False), random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        prompt, began = draw.choice(PROMPTS), time.monotonic()
        if draw.random() < LEAVING:
            job = ask(client, prompt, 1000)
            time.sleep(0.3)
            job.cancel()
            seen.left += 1
            continue
        try:
            got = replies(ask(client, prompt).result(timeout=120))
        except Exception as error:
            seen.lost.append(repr(error))
            continue
        seen.waited[prompt].append(time.monotonic() - began)
        if got != known[prompt]:
            seen.mixed.append(prompt)


def held_kilobytes(served: Served) -> int:
    lines = Path(f"/proc/{served.process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.long
@pytest.mark.parametrize("seconds", [4, 600])
def test_every_user_gets_its_own_replies_and_its_share(served, seconds):
    known = {prompt: replies(ask(Client(served.address, verbose=False), prompt).result()) for prompt in PROMPTS}
    assert len(set(known.values())) == len(PROMPTS)
    seen, warm = Seen(), Seen()
    with ThreadPoolExecutor(USERS) as users:
        list(users.map(lambda seed: use(served, known, seconds / 4, seed, warm), range(USERS)))
        before = held_kilobytes(served)
        list(users.map(lambda seed: use(served, known, seconds, 100 + seed, seen), range(USERS)))
    p95, share = float(np.quantile(seen.seconds, 0.95)), float(np.quantile(seen.shares, 0.95))
    grown = held_kilobytes(served) / before
    print(
        f"{len(seen.seconds)} replies, {seen.left} left, p95 {p95:.2f} s, mean {np.mean(seen.seconds):.2f} s, p95 of "
        f"shares {share:.2f}, memory x {grown:.3f}"
    )
    assert seen.lost == [] and seen.mixed == [] and len(seen.seconds) >= USERS / 2
    if seconds > 60:
        assert grown <= MORE_MEMORY and share <= FAIR


@pytest.mark.long
def test_of_a_burst_some_are_refused_in_words_and_all_is_well_afterwards(served):
    clients = [Client(served.address, verbose=False) for _ in range(50)]
    outcomes: list[tuple[float, str]] = []
    began, start = time.monotonic(), threading.Barrier(len(clients))

    def burst(client: Client) -> None:
        start.wait()
        asked = time.monotonic()
        try:
            shown = ask(client, PROMPTS[0]).result(timeout=120)
            outcomes.append((time.monotonic() - asked, "answered" if "tokens/s" in shown[4] else shown[4]))
        except Exception as error:
            outcomes.append((time.monotonic() - asked, str(error)))

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(burst, clients))
    refused = sorted(seconds for seconds, words in outcomes if words != "answered")
    print(f"{len(outcomes) - len(refused)} answered in {time.monotonic() - began:.1f} s; refused after {refused}")
    assert {words for _, words in outcomes} == {"answered", "Queue is full! Please try again."}
