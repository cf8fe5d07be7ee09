"""Preference pairs so small that a test learns them in a second."""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.finetune.tiny_models import COLOURS, questions


def pair_records(number: int) -> list[dict[str, str]]:
    """Questions with a right and a wrong answer of different length."""
    return [
        {
            "prompt": asked,
            "chosen": answer,
            "rejected": f"It is {COLOURS[(n * 7 + 1) % 4]}" + (", I think." if n % 3 else "."),
        }
        for n, (asked, answer) in enumerate(questions(number))
    ]


def write_pairs(path: Path, number: int = 100, weights: Sequence[float] = (1,)) -> Path:
    """A .jsonl file of pairs, which have the weights in turn."""
    records = ({**one, "weight": weights[n % len(weights)]} for n, one in enumerate(pair_records(number)))
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
