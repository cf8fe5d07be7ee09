"""`run.json`: what a run is made of, read with every kind of value checked that is used again."""

import json
from pathlib import Path
from typing import Any

from configs import InputError, MissingInput

RECORD = "run.json"
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("engine", "versions", "machine", "extension"), dict),
    **dict.fromkeys(("questions_asked", "conversations_drawn", "world_size"), int),
    "epochs": (int, float),
}
"""Facts that are read again, and what they are, beside the hashes, which are text."""


def read_record(folder: Path) -> dict[str, Any]:
    """What the record in the folder of a run holds.

    Raises:
        InputError: there is none, or it is not what a run wrote.

    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingInput(f"{folder}: no {RECORD}, expected the folder of a run") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}), expected what a run wrote there") from None
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise InputError(f"{path}: holds no settings, expected what a run wrote there")
    for name, value in record.items():
        kind = str if name.endswith("_sha256") else KINDS.get(name, object)
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{path}: {name} is {value!r}, expected what a run wrote there")
    return record
