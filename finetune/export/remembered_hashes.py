"""The hash of a base's weights, computed once for each state of its files.

Half a gigabyte takes a second, so it is remembered on this machine for as long as no file of the folder has another
size, time of change or number on the disk. What has to be a proof asks for it anew.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from configs.cache_folder import cache_folder
from configs.whole_folder import write_whole
from tokenizer_ext.extension.certificate import hash_weights, weights_sha256
from tokenizer_ext.pages.progress import progress


def base_sha256(folder: Path, model: PreTrainedModel, tokens: int, *, anew: bool) -> str:
    """The hash of the weights that `model` was read with from a folder, of whose rows the first `tokens` enter.

    With `anew` the weights in memory are hashed, whatever is remembered.
    """
    state = [tokens, *_states(folder)]
    path = cache_folder() / "base_hashes" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json"
    remembered = None if anew else _read(path)
    if remembered is not None and remembered.get("state") == state:
        return str(remembered["sha256"])
    with progress("hashing the base"):
        found = weights_sha256(hash_weights(model, tokens))
    with suppress(OSError):  # a full disk or a folder closed to us; then it is hashed again
        write_whole(path, json.dumps({"state": state, "sha256": found}) + "\n", shared=True)
    return found


def _states(folder: Path) -> list[list[Any]]:
    found = ((path.name, path.stat()) for path in sorted(folder.glob("*.safetensors")))
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in found]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "sha256" in found else None
