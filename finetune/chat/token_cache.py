"""Rendered conversations, kept in files that are mapped into memory: a second run on the same data renders nothing.

    tokens/<key>/input_ids.npy     int32, (M,)
    tokens/<key>/supervised.npy    bool, (M,)
    tokens/<key>/lengths.npy       int64, (N,)
    tokens/<key>/sources.npy       int64, (N,)
    tokens/<key>/weights.npy       float32, (M,); (0,) where all that is learned counts 1 in the loss

The key is a hash of everything that decides the ids: what is said and by whom, the tokenizer, the chat format with its
control ids, the version of `tokenizers`, and the code that renders. So an entry is never stale: what
changes any of them is looked for, and made, under another key. An entry is written beside its place and moved there
whole. Several processes may make the same one at once; let the main process come first where that would be a waste.

Shapes: N rows, most often one a conversation, M ids of all of them.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache as once
from pathlib import Path

import numpy as np
import tokenizers

from configs.cache_folder import cache_folder
from configs.whole_folder import whole_folder
from finetune import chat as chat_folder
from finetune import templates
from finetune.chat.chat_format import ChatFormat
from finetune.chat.rendered import RenderedSet, starts_of
from finetune.conversations.formats import Conversation
from tokenizer_ext import bpe, huggingface
from tokenizer_ext.extension.certificate import tokenizer_sha256
from tokenizer_ext.pages.progress import shown

MOST_ENTRIES = 32
DECIDES_IDS = tuple(Path(folder.__path__[0]) for folder in (templates, chat_folder, bpe, huggingface))
"""The folders whose code decides ids; what is said is hashed itself, however it was read."""
PARTS = ("input_ids", "supervised", "lengths", "sources", "weights")


def default_token_cache() -> Path:
    """The folder of the entries on this machine; they can all be made again."""
    return cache_folder() / "tokens"


@shown("rendering the conversations")
def render_through_cache(conversations: Sequence[Conversation], chat: ChatFormat, folder: Path) -> RenderedSet:
    """What `chat` renders of the conversations, from the cache if it is there, and else put there."""
    entry = folder / entry_key(conversations, chat)
    found = _open(entry)
    if found is not None:
        return found
    rendered = chat.render_set(conversations)
    try:
        _write(rendered, entry)
        _drop_oldest(folder)
    except OSError as error:  # a full disk or a folder closed to us; the run itself needs no cache
        print(f"{folder}: the ids of this run are not kept ({error.strerror})", file=sys.stderr)
    return _open(entry) or rendered


def entry_key(conversations: Sequence[Conversation], chat: ChatFormat) -> str:
    """The hash of all that decides the ids of the conversations, and how they are kept."""
    digest = hashlib.sha256()
    for conversation in conversations:
        # With its length before each text, no text can read like two others.
        said = [
            f"{message.role}:{len(message.content)}:{message.content}{message.beside_content()}"
            for message in conversation.messages
        ]
        digest.update(f"{len(said)}:{''.join(said)}".encode())
        tools = conversation.tools
        digest.update(b"" if tools is None else f"tools:{len(tools)}:{tools}".encode())
    decided_by = {
        "tokenizer": tokenizer_sha256(chat.tokenizer),
        "chat_format": chat.decided_by(),
        "calculator": chat.calculator,
        "tokenizers": tokenizers.__version__,
        "code": code_sha256(),
    }
    digest.update(json.dumps(decided_by, sort_keys=True).encode())
    return digest.hexdigest()


@once
def code_sha256() -> str:
    """The hash of every module that decides ids: the chat format and its annotations, and the tokenizer code below."""
    return hash_code(DECIDES_IDS)


def hash_code(folders: Iterable[Path]) -> str:
    """The hash of the Python files of some folders and of what lies in these, by name and content."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{path.relative_to(folder).as_posix()}".encode())
            digest.update(b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _open(entry: Path) -> RenderedSet | None:
    """The entry mapped into memory; None where there is none, or where it is not whole and has to be made again."""
    try:
        ids, supervised, lengths, sources, weights = (np.load(entry / f"{part}.npy", mmap_mode="r") for part in PARTS)
    except (OSError, ValueError, EOFError):  # absent, closed to us, or cut short by a full disk or a lost machine
        return None
    if not len(ids) == len(supervised) == lengths.sum() or len(sources) != len(lengths):
        return None
    if len(weights) not in (0, len(ids)):
        return None
    with suppress(OSError):  # a folder that can only be read
        os.utime(entry)  # the entry that was not used for longest is dropped first
    of_rows = starts_of(np.asarray(lengths)), np.asarray(lengths), np.asarray(sources)
    return RenderedSet(ids, supervised, *of_rows, weights if len(weights) else None)


def _write(rendered: RenderedSet, entry: Path) -> None:
    with whole_folder(entry, shared=True) as partial:
        for part in PARTS:
            found = getattr(rendered, part)
            np.save(partial / f"{part}.npy", np.zeros(0, dtype=np.float32) if found is None else found)


def _drop_oldest(folder: Path) -> None:
    """Keeps the entries that were used last; a process that has one mapped keeps reading it."""
    used: dict[Path, float] = {}
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):  # another process has just moved or dropped it
            used[entry] = entry.stat().st_mtime
    for entry in sorted(used, key=used.__getitem__)[:-MOST_ENTRIES]:
        shutil.rmtree(entry, ignore_errors=True)
