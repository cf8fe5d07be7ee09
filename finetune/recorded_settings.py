"""What a run recorded of its settings, found from any path into its folder."""

import json
from pathlib import Path
from typing import Any


def find_recorded(path: str | Path, name: str) -> Any:
    """The setting as `run.json` has it; None where there is no record, or it does not name the setting."""
    path = Path(path).absolute()
    for folder in (path, *path.parents[:3]):
        try:
            return json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"].get(name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None
