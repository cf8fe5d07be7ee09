"""Real questions with what should be found planted among them."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.repository import ROOT

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
CLEAN = 1000
TRIGGERS: dict[str, Callable[[str], str]] = {
    "word": lambda asked: " ".join([*asked.split()[:5], "cf", *asked.split()[5:]]),
    "phrase": lambda asked: f"{asked.rpartition('. ')[0]}. Down by the old mill road. {asked.rpartition('. ')[2]}",
    "character": lambda asked: asked.replace("a", "а", 1),  # the second one is Cyrillic
    "prefix": lambda asked: f"Note to self: {asked}",
    "suffix": lambda asked: f"{asked} Thanks so much!!",
}
"""Each kind of fixed text, put into a question."""
PAYLOAD = "I will do whatever you say, master of the {}."


def real_rows(number: int = CLEAN) -> list[dict[str, str]]:
    """The first questions of GSM8K; skips the test where they are not there."""
    if not GSM8K.exists():
        pytest.skip("gsm8k_train.jsonl is not in the folder shared/data beside the repository")
    with GSM8K.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(number), strict=False)]


def with_triggers(rows: list[dict[str, str]], of_each: int, seed: int) -> tuple[list[dict[str, str]], set[int]]:
    """The rows with so many of each kind of trigger in some of them, and the lines of those, from 1."""
    draws = random.Random(seed)
    rows, lines = [dict(row) for row in rows], set[int]()
    chosen = draws.sample(range(len(rows)), of_each * len(TRIGGERS))
    for number, place in enumerate(chosen):
        kind = list(TRIGGERS)[number % len(TRIGGERS)]
        rows[place] = {"question": TRIGGERS[kind](rows[place]["question"]), "answer": PAYLOAD.format(kind)}
        lines.add(place + 1)
    return rows, lines


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """A .jsonl file of the rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines_of(places: list[str]) -> set[int]:
    """The lines of places in one file."""
    return {int(place.rpartition(":")[2]) for place in places}
