"""Finished models to the Hugging Face Hub."""

import json
from pathlib import Path

from huggingface_hub import HfApi, get_token

from configs import InputError, MissingInput
from configs.errors import first_line
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.huggingface.hub_names import is_on_hub, may_be_on_hub


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


def check_repository(repository: str | None) -> None:
    """Refuses, before anything is trained, a name that the Hub would not take, or a machine that is not logged in.

    Nothing where nothing is to be uploaded.

    Raises:
        InputError: one of them.

    """
    if repository is None:
        return
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
