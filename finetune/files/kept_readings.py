"""What was read of files, kept: the next run on the same files reads, checks and compares nothing anew.

    readings/<key>/facts.json          what else was found
    readings/<key>/<name>.items        the items of a part, one behind the other
    readings/<key>/<name>.ends         int64, where each ends, 0 first

The key is a hash of the content of every file, of its name and of what is done with it, of the code that reads and of
the libraries that it reads with, so an entry is never stale. What comes from the Hub or from memory is read anew.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Any

from configs.cache_folder import cache_folder, drop_oldest
from configs.file_hash import file_sha256, hash_code
from configs.whole_folder import whole_folder
from finetune.files.records import local_files
from finetune.files.stored_items import Codec, Item, Stored, StoredItems
from tokenizer_ext.pages.progress import shown

MOST_ENTRIES, MOST_BYTES = 16, 10 * 2**30
FACTS = "facts.json"


class KeptReadings:
    """The entries of one kind of items on this machine; they can all be made again.

    Args:
        codec: How an item is written and read.
        code: The folders and files whose code decides what is read.

    """

    def __init__(self, codec: Codec[Item], code: Iterable[Path]) -> None:
        self.codec, self.code, self.folder = codec, tuple(code), cache_folder() / "readings"

    @shown("looking whether the files were read before")
    def key_of(self, names: Iterable[str], **choices: Any) -> str | None:
        """The key of the data of some names, read with some choices; None where they are no files that can be read."""
        contents = []
        for name in names:
            files = local_files(name)
            if files is None or not all(path.is_file() and os.access(path, os.R_OK) for path in files):
                return None
            contents.append([name, *((str(path), file_sha256(path)) for path in files)])
        decided_by = [contents, choices, _hash_once(self.code), version("pyarrow")]
        return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()

    def find(self, key: str, names: Iterable[str]) -> tuple[dict[str, StoredItems[Any]], dict[str, Any]] | None:
        """The parts of an entry and its facts; None where there is none, or where it is not whole."""
        entry = self.folder / key
        try:
            facts = json.loads((entry / FACTS).read_bytes())
            files = {name: (entry / f"{name}.items", entry / f"{name}.ends") for name in names}
            parts = {name: StoredItems(self.codec, both) for name, both in files.items()}
            if any(parts[name].size != items.stat().st_size for name, (items, _) in files.items()):
                return None
        except (OSError, ValueError):  # absent, closed to us, or cut short by a full disk or a lost machine
            return None
        with suppress(OSError):  # a folder that can only be read
            os.utime(entry)  # the entry that was not used for longest is dropped first
        return parts, facts

    def keep(self, key: str, parts: Mapping[str, Stored[Any]], facts: Mapping[str, Any]) -> None:
        """Writes an entry; a full disk is told, and the run goes on without."""
        try:
            with whole_folder(self.folder / key, shared=True) as partial:
                for name, items in parts.items():
                    items.keep(partial / f"{name}.items", partial / f"{name}.ends")
                (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
            drop_oldest(self.folder, MOST_ENTRIES, MOST_BYTES)
        except OSError as error:
            print(
                f"{self.folder}: what was read is not kept for the next run ({error.strerror or error})",
                file=sys.stderr,
            )


@once
def _hash_once(code: tuple[Path, ...]) -> str:
    return hash_code(code)
