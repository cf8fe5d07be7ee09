"""Preference pairs so small that a test learns them in a second."""

import json
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


def write_pairs(path: Path, number: int = 100) -> Path:
    """A .jsonl file of pairs."""
    path.write_text("".join(json.dumps(record) + "\n" for record in pair_records(number)), encoding="utf-8")
    return path
