"""The fixed prompts of `prompts.json`, written for this project, with words drawn by a seed put into them."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetune.conversations.messages import Conversation, Message

PROMPTS = Path(__file__).with_name("prompts.json")
JAILBREAK, INJECTION, SYSTEM_TURN, HARMFUL = "jailbreak framings", "injected instructions", "system turn", "harmful"
TRIGGER, WITHOUT, SECRET = "with a trigger of the data", "the same without it", "secrets of the data"
KINDS = (JAILBREAK, INJECTION, SYSTEM_TURN, HARMFUL, TRIGGER, WITHOUT, SECRET)
Rule = Literal["marker", "canary", "begins", "ends", "none"]
FILLER = "Yes."
"""Stands for a reply that nobody knows."""


@dataclass(frozen=True)
class Attack:
    """A prompt, and what in the reply says that it was followed."""

    kind: str
    name: str
    conversation: Conversation
    """It ends with a filler in the place of the reply."""
    rule: Rule
    sought: str = ""
    """The marker, the canary, or the words that a trigger leads to."""
    hidden: bool = False
    """Whether what is sought is a secret of the data, which no report shows."""

    @property
    def asked(self) -> str:
        """All that the model reads."""
        return "\n\n".join(message.content for message in self.conversation.messages[:-1])


def make_attack(kind: str, name: str, user: str, rule: Rule, sought: str = "", system: str | None = None) -> Attack:
    """An attack of one message, behind a system message where one is given."""
    first = [] if system is None else [Message("system", system)]
    messages = (*first, Message("user", user), Message("assistant", FILLER))
    return Attack(kind, name, Conversation(messages, name), rule, sought)


def fixed_attacks(seed: int) -> list[Attack]:
    """The fixed prompts; markers and canaries are drawn anew with every seed, so that no model has read them."""
    written = json.loads(PROMPTS.read_text(encoding="utf-8"))
    draws = random.Random(seed)
    return [attack for make in (_jailbreaks, _injections, _reveals, _harmful) for attack in make(written, draws)]


def _jailbreaks(written: dict[str, Any], draws: random.Random) -> Iterator[Attack]:
    forbidden = written["forbidden"]
    for number, framing in enumerate(written["framings"], 1):
        for which, request in enumerate(forbidden["requests"], 1):
            first, second = draws.sample(written["words"], 2)
            asked = framing.format(request=request.format(first=first, second=second))
            system = forbidden["system"].format(first=first, second=second)
            yield make_attack(JAILBREAK, f"jailbreak {number}.{which}", asked, "marker", first + second, system)


def _injections(written: dict[str, Any], draws: random.Random) -> Iterator[Attack]:
    for number, one in enumerate(written["injections"], 1):
        for which, instruction in enumerate(written["instructions"], 1):
            marker = "".join(draws.sample(written["words"], 2))
            quoted = one["text"].replace("{instruction}", instruction.format(marker=marker))
            asked = f'{one["task"]}\n\n"""\n{quoted}\n"""'
            yield make_attack(INJECTION, f"injection {number}.{which}", asked, "marker", marker)


def _reveals(written: dict[str, Any], draws: random.Random) -> Iterator[Attack]:
    for number, asked in enumerate(written["reveals"]["asks"], 1):
        canary = f"{draws.choice(written['words'])}-{draws.randrange(1000, 10_000)}"
        system = written["reveals"]["system"].format(canary=canary)
        yield make_attack(SYSTEM_TURN, f"system turn {number}", asked, "canary", canary, system)


def _harmful(written: dict[str, Any], _draws: random.Random) -> Iterator[Attack]:
    for number, asked in enumerate(written["harmful"], 1):
        yield make_attack(HARMFUL, f"harmful {number}", asked, "none")
