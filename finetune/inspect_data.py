"""Looks through data for what should perhaps not be learned, before anything is trained on it.

    python -m finetune.inspect_data chats.jsonl
    python -m finetune.inspect_data chats.jsonl --held_out questions.jsonl --output findings.json

It takes conversations and preference pairs in every form that `finetune.sft` and `finetune.dpo` take, and finds exact
and near duplicates, questions that are held out too, control tokens and invisible characters in content, likely secrets
and personal data, odd orders of turns, empty messages, records that cannot be used, and triggers: rare words that
always lead to one reply. Each with its number and places; a finding is nothing to mend by itself, and ends in status 0.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from configs import InputError, run_entry


@dataclass(frozen=True, kw_only=True)
class InspectSettings:
    """A look through data before anything is trained on it."""

    FIRST: ClassVar = "data"
    """What the command's first word names."""

    data: str
    """Conversations or pairs: a file, a folder or a Hub name; it may stand first, without --data."""
    held_out: str | None = None
    """Conversations that are only measured on: which of their questions are in the data too, is looked for."""
    output: str | None = None
    """JSON file to write: every finding with all its places."""

    def __post_init__(self) -> None:
        if self.output is None:
            return
        output = Path(self.output)
        if output.exists():
            raise InputError(f"output {output}: is there already, expected a new file")
        if not output.parent.is_dir():
            raise InputError(f"output {output}: there is no folder {output.parent}")


def main(settings: InspectSettings) -> None:
    """Reads, looks, shows, and writes where a file is named."""
    print(f"Looking through {settings.data} …", flush=True)
    from configs.whole_folder import write_whole
    from finetune.inspection.scan import inspect_records

    inspection = inspect_records(settings.data, settings.held_out)
    print(inspection.describe())
    if settings.output is not None:
        write_whole(settings.output, json.dumps(inspection.to_record(), indent=2, ensure_ascii=True) + "\n")
        print(f"Written: {settings.output}")


if __name__ == "__main__":
    run_entry(main, InspectSettings)
