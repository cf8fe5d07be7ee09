"""The cheap part of an inspection, done before a run learns from its data; `finetune.inspect_data` does all of it."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from configs.cache_folder import cache_folder, drop_oldest
from configs.file_hash import hash_code
from configs.whole_folder import write_whole
from finetune.conversations.messages import Conversation
from finetune.files.rows_in_memory import RowsInMemory
from finetune.files.weighted_sets import Data, read_sets
from finetune.inspection.findings import DUPLICATES, KINDS, Findings, describe_kind
from finetune.inspection.marks import cheap_marks, text_of
from finetune.inspection.record_reading import hash_record
from scratch_models.embedded.default import EMBEDDED
from tokenizer_ext.pages.progress import tracked

CODE = Path(__file__).parent
FOLDER, LINES, MOST_ENTRIES = "inspections", "lines.json", 64


def inspect_before_training(
    data: Data, groups: Iterable[Sequence[Conversation]], kept_as: str | None = None
) -> list[str]:
    """A line for each kind of thing found, and how to see more; none where nothing was found.

    Looked for are control tokens, invisible characters, likely secrets and exact duplicates.

    Args:
        data: As the run names it; the data that comes with the project is not looked through.
        groups: The conversations of each record, one or the two of a pair.
        kept_as: The key of what was read, where it is kept: the lines are kept under it too.

    """
    if data == EMBEDDED:
        return []
    entry = None if kept_as is None else cache_folder() / FOLDER / _key_of(kept_as)
    if entry is not None and (kept := _read_kept(entry)) is not None:
        return kept
    lines = _look(data, groups)
    if entry is not None:
        _keep(entry, lines)
    return lines


def _look(data: Data, groups: Iterable[Sequence[Conversation]]) -> list[str]:
    findings, known = Findings(), set[int]()
    for group in tracked(groups, "looking for what should not be learned", "records"):
        place = group[0].source.partition(", ")[0]
        findings.add(place, (mark for one in group for mark in cheap_marks(text_of(one))))
        own = hash_record(list(group))
        if own in known:
            findings.add(place, [(DUPLICATES, "equal to another")])
        known.add(own)
    lines = ["data: " + describe_kind(kind, found) for kind in KINDS if (found := findings.of_kind(kind))]
    return [*lines, *_pointers(data)] if lines else []


def _pointers(data: Data) -> list[str]:
    """The commands that show all of it, of data that a command can name."""
    names = [one.name for one in read_sets(data) if not isinstance(one.name, RowsInMemory)]
    return [f"data: see all of it with: python -m finetune.inspect_data {quote(name)}" for name in names]


def _key_of(kept_as: str) -> str:
    return hashlib.sha256(f"{kept_as} {hash_code([CODE])}".encode()).hexdigest()


def _read_kept(entry: Path) -> list[str] | None:
    """The lines that were kept; None where there are none, or none that can be read."""
    with suppress(OSError, ValueError):
        lines = json.loads((entry / LINES).read_bytes())
        if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
            return lines
    return None


def _keep(entry: Path, lines: list[str]) -> None:
    with suppress(OSError):  # on a full disk the next run looks again
        write_whole(entry / LINES, json.dumps(lines), shared=True)
        drop_oldest(entry.parent, MOST_ENTRIES)
