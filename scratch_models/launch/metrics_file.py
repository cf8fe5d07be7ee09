"""`metrics.jsonl`: one JSON object a step. A line that a kill or the disk damaged is left out, and said."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.disk_space import full_disk_said
from configs.whole_folder import write_whole

NEEDED = ("step", "tokens", "seconds")
DRAWN = (
    *("loss_nats", "learning_rate", "gradient_norm", "tokens_per_second"),
    *("held_out_loss_nats", "held_out_bits_per_byte"),
)


@dataclass(frozen=True)
class Metrics:
    """What a file of metrics holds."""

    entries: list[dict[str, Any]]
    damaged: tuple[int, ...]
    """The numbers of lines that are no line of metrics, from 1; a last line that a kill cut short is not among them."""

    def describe_damage(self, path: Path) -> str | None:
        """What could not be read, in one line; None where all could."""
        if not self.damaged:
            return None
        lines = f"{len(self.damaged)} damaged line{'s' if len(self.damaged) > 1 else ''}, the first is line"
        return f"{path}: {lines} {self.damaged[0]}: the curves and the pace leave them out"


def read_metrics(path: Path) -> Metrics:
    """The whole lines of a file; none where there is no file."""
    if not path.exists():
        return Metrics([], ())
    *whole, _cut_short = path.read_bytes().split(b"\n")
    read = [_entry(line) for line in whole]
    damaged = tuple(number for number, entry in enumerate(read, 1) if entry is None)
    return Metrics([entry for entry in read if entry is not None], damaged)


def append_metrics(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds one line.

    Raises:
        FullDisk: the disk has no room for it.

    """
    line = json.dumps(entry) + "\n"
    with full_disk_said(path, lambda: len(line)), path.open("a", encoding="utf-8") as file:
        file.write(line)


def drop_metrics_after(path: Path, step: int) -> str | None:
    """Takes back the lines of steps that a resumed run will do again; what is damaged, in one line."""
    found = read_metrics(path)
    kept = [json.dumps(entry) + "\n" for entry in found.entries if entry["step"] <= step]
    write_whole(path, "".join(kept))
    if step > 0 and not kept:
        return f"{path}: is missing or empty: the curves begin after step {step}"
    return found.describe_damage(path)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if is_entry(entry) else None


def is_entry(value: Any) -> bool:
    """Whether it is what a line of metrics holds: what is compared and drawn is a number, wherever it is there."""
    return (
        isinstance(value, dict)
        and all(_is_number(value.get(name)) for name in NEEDED)
        and all(_is_number(value[name]) for name in DRAWN if name in value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
