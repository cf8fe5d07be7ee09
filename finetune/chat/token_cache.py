"""Rendered conversations, kept in files that are mapped into memory: a second run on the same data renders nothing.

    tokens/<key>/input_ids     int32, (M,)
    tokens/<key>/supervised    bool, (M,)
    tokens/<key>/lengths       int32, (N,)
    tokens/<key>/sources       int32, (N,)
    tokens/<key>/facts         int32, (N, 5), see `ROW_FACTS`
    tokens/<key>/sizes.json    how many values each of the others holds, and the hash of its bytes
    tokens/<key>/weights       float32, (M,); (0,) where all that is learned counts 1 in the loss

The key is a hash of everything that decides the ids: what is said and by whom, the tokenizer, the chat format with its
control ids, the version of `tokenizers`, and the code that renders. So an entry is never stale: what
changes any of them is looked for, and made, under another key. An entry is written beside its place and moved there
whole, and hashed before it is used: one with a flipped bit is made again. Several processes may make the same one at
once; let the main process come first where that would be a waste.

Shapes: N rows, most often one a conversation, M ids of all of them.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache as once
from pathlib import Path

import numpy as np
import tokenizers
import xxhash
from tqdm import tqdm

from configs.cache_folder import cache_folder, drop_oldest
from configs.file_hash import hash_code
from configs.whole_folder import whole_folder
from finetune import chat as chat_folder
from finetune import templates
from finetune.chat.chat_format import ChatFormat
from finetune.chat.rendered import ROW_FACTS, RenderedSet, starts_of
from finetune.conversations.formats import Conversation
from tokenizer_ext import bpe, huggingface
from tokenizer_ext.extension.certificate import tokenizer_sha256
from tokenizer_ext.pages.progress import progress

MOST_ENTRIES = 32
DECIDES_IDS = tuple(Path(folder.__path__[0]) for folder in (templates, chat_folder, bpe, huggingface))
"""The folders whose code decides ids; what is said is hashed itself, however it was read."""
PARTS = {name: np.dtype(np.int32) for name in ("input_ids", "lengths", "sources")}
PARTS |= {"supervised": np.dtype(np.bool_), "facts": ROW_FACTS, "weights": np.dtype(np.float32)}
"""The files of an entry, arrays without a header."""
SIZES = "sizes.json"


def default_token_cache() -> Path:
    """The folder of the entries on this machine; they can all be made again."""
    return cache_folder() / "tokens"


def render_through_cache(conversations: Sequence[Conversation], chat: ChatFormat, folder: Path) -> RenderedSet:
    """What `chat` renders of the conversations, from the cache if it is there, and else put there as it is rendered."""
    with progress("rendering the conversations", len(conversations), "conversations") as bar:
        entry = folder / entry_key(conversations, chat)
        found = _open(entry)
        if found is not None:
            return found
        try:
            _write(_counted(chat.render_parts(conversations), bar), entry)
            drop_oldest(folder, MOST_ENTRIES)
        except OSError as error:  # a full disk or a folder closed to us; the run itself needs no cache
            print(f"{folder}: the ids of this run are not kept ({error.strerror or error})", file=sys.stderr)
        return _open(entry) or chat.render_set(conversations)


def _counted(parts: Iterable[RenderedSet], bar: tqdm) -> Iterator[RenderedSet]:
    """The parts, each counted by the conversations that are rendered with it."""
    for part in parts:
        yield part
        bar.update(int(part.sources[-1]) + 1 - bar.n if len(part) else 0)


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


def _open(entry: Path) -> RenderedSet | None:
    """The entry mapped into memory; None where there is none, or where it is not whole and has to be made again."""
    try:
        sizes = json.loads((entry / SIZES).read_bytes())
        found = {part: _map(entry / part, dtype) for part, dtype in PARTS.items()}
    except (OSError, ValueError):  # absent, closed to us, or cut short by a full disk or a lost machine
        return None
    if sizes != {part: _described(values) for part, values in found.items()}:
        return None
    lengths = np.array(found["lengths"])
    with suppress(OSError):  # a folder that can only be read
        os.utime(entry)  # the entry that was not used for longest is dropped first
    of_rows = starts_of(lengths), lengths, np.array(found["sources"])
    weights = found["weights"] if len(found["weights"]) else None
    return RenderedSet(found["input_ids"], found["supervised"], *of_rows, weights, np.array(found["facts"]))


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _described(values: np.ndarray) -> list[int | str]:
    """How many values there are, and a hash of their bytes that is as fast as memory."""
    digest = xxhash.xxh3_128()
    for some in _blocks(values):
        digest.update(np.ascontiguousarray(some).view(np.uint8))
    return [len(values), digest.hexdigest()]


def _write(parts: Iterable[RenderedSet], entry: Path) -> None:
    """Writes an entry part by part, so that it may be larger than memory; weights from the first that is not 1 on."""
    with whole_folder(entry, shared=True) as partial, ExitStack() as stack:
        files = {name: stack.enter_context((partial / name).open("wb")) for name in PARTS}
        has_weights = False
        for part in parts:
            if part.weights is not None and not has_weights:
                has_weights = True
                files["supervised"].flush()
                for flags in _blocks(_map(partial / "supervised", PARTS["supervised"])):
                    files["weights"].write(flags.astype(PARTS["weights"]).tobytes())
            weights = part.supervised if part.weights is None else part.weights
            found = {name: getattr(part, name) for name in PARTS} | {"weights": weights if has_weights else weights[:0]}
            for name, dtype in PARTS.items():
                files[name].write(np.ascontiguousarray(found[name], dtype=dtype).tobytes())
        for file in files.values():
            file.flush()
        sizes = {name: _described(_map(partial / name, dtype)) for name, dtype in PARTS.items()}
        (partial / SIZES).write_text(json.dumps(sizes))


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[start : start + 2**22] for start in range(0, len(values), 2**22))
