"""Finished models to and from the Hugging Face Hub."""

import json
from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download, try_to_load_from_cache

from configs import InputError, MissingInput
from configs.errors import first_line
from finetune.export.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tokenizer_ext.huggingface.hf_model import TOKENIZER_FILES
from tokenizer_ext.huggingface.hub_names import is_mistyped_path, is_on_hub, may_be_on_hub

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]


def push(final: str | Path, repository: str, *, private: bool = True) -> str:
    """The address of the repository, which now holds the folder, its card as its page; made private unless told.

    Raises:
        InputError: there is no model in the folder, or the Hub does not take it.

    """
    folder = Path(final)
    if not any((folder / name).is_file() for name in ("config.json", "base/config.json", ADAPTER_CONFIG)):
        raise MissingInput(f"{folder}: holds no finished model, expected the final/ or merged folder of a run")
    _refuse_lonely_adapter(folder, repository)
    check_repository(repository)
    api = HfApi()
    try:
        created = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=created.repo_id,
            folder_path=folder,
            commit_message=f"Upload {folder.name}",
        )
    except Exception as error:  # whatever the network or the Hub did: the answer is the same
        raise InputError(
            f"push_to_hub {repository}: not uploaded ({first_line(error)}); the model is whole in {folder}: "
            f"upload it later with `hf upload {repository} {folder}`"
        ) from None
    return str(created)


def check_repository(repository: str) -> None:
    """Refuses, before anything is trained, a name that the Hub would not take, or a machine that is not logged in.

    Raises:
        InputError: one of them.

    """
    if not may_be_on_hub(repository):
        raise InputError(
            f"push_to_hub: found {repository!r}, expected the name of a repository such as my-name/my-model"
        )
    if get_token() is None:
        raise InputError(
            f"push_to_hub {repository}: this machine is not logged in to the Hub: run `hf auth login` or set HF_TOKEN"
        )


def _refuse_lonely_adapter(folder: Path, repository: str) -> None:
    """Refuses an adapter whose base is a folder of this machine, which nobody else could open."""
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        return
    base = str(json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path"))
    if not is_on_hub(base):
        raise InputError(
            f"push_to_hub {repository}: the adapter in {folder} lies on {base}, a folder of this machine, without "
            f"which nobody can open it: upload both as one model: python -m finetune.merge --tuned {folder} "
            f"--push_to_hub {repository}"
        )


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
    if not is_on_hub(name):
        return path
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=MODEL_FILES))
    except Exception as error:
        raise MissingInput(f"{model}: no such folder, and not fetched from the Hub ({first_line(error)})") from None


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
