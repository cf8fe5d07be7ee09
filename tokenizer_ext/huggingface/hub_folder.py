"""The folder of a model: the one that is named, or of a repository on the Hub its copy on this machine."""

import json
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache

from configs import MissingInput
from configs.errors import first_line
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tokenizer_ext.huggingface.hub_names import is_mistyped_path, is_on_hub

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
OTHER_FORMS = ["consolidated*", "original/*", "onnx/*"]
"""Where repositories keep the same weights once more."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")  # of today, and of GPT-2's first folders


def fetch(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: the one that is named, or of a repository on the Hub its copy on this machine.

    Where the whole model lies in the Hub's cache the network is not asked, so that it opens without one; what is newer
    on the Hub is fetched by `hf download`.

    Raises:
        InputError: there is no such folder, and the Hub does not give it.

    """
    path, name = Path(model), str(model)
    if path.exists() or is_mistyped_path(name):
        return path
    cached = _cached(name, revision)
    if cached is not None and is_whole(cached):
        return cached
    return download(name, revision) if is_on_hub(name) else path


def download(name: str, revision: str | None = None) -> Path:
    """The copy of a repository on the Hub: its safetensors and what goes with them, nothing else.

    Raises:
        MissingInput: the Hub does not give it.

    """
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES, ignore_patterns=OTHER_FORMS))
    except Exception as error:
        raise MissingInput(f"{name}: no such folder, and not fetched from the Hub ({first_line(error)})") from None


def is_whole(folder: Path) -> bool:
    """Whether a folder holds weights and tokenizer, of a model or of an adapter, with its base where that is beside."""
    if (folder / "adapter").is_dir():
        return (folder / "adapter" / ADAPTER_WEIGHTS).is_file() and is_whole(folder / "base")
    tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    weights = any((folder / name).is_file() for name in ("model.safetensors", ADAPTER_WEIGHTS))
    return tokenizer and (weights or _has_every_shard(folder))


def _has_every_shard(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return all((folder / shard).is_file() for shard in index["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _cached(name: str, revision: str | None) -> Path | None:
    """The copy of a repository in the Hub's cache, which may lack files; None where there is none."""
    for file in (ADAPTER_CONFIG, "base/config.json", "config.json"):
        found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return Path(found.removesuffix(file))
    return None
