"""Finished models to and from the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download

from configs import InputError, MissingInput
from configs.errors import first_line
from tokenizer_ext.huggingface.hub_names import is_mistyped_path, is_on_hub, may_be_on_hub

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]


def push(final: str | Path, repository: str, *, private: bool = True) -> str:
    """The address of the repository, which now holds the folder, its card as its page; made private unless told.

    Raises:
        InputError: there is no model in the folder, or the Hub does not take it.

    """
    folder = Path(final)
    if not any((folder / name).is_file() for name in ("config.json", "base/config.json")):
        raise MissingInput(f"{folder}: holds no finished model, expected the final/ or merged folder of a run")
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


def fetch(model: str | Path) -> Path:
    """The folder of a model: the one that is named, or of a repository on the Hub its copy on this machine.

    Raises:
        InputError: there is no such folder, and the Hub does not give it.

    """
    path = Path(model)
    if path.exists() or is_mistyped_path(str(model)) or not is_on_hub(str(model)):
        return path
    try:
        return Path(snapshot_download(str(model), allow_patterns=MODEL_FILES))
    except Exception as error:
        raise MissingInput(f"{model}: no such folder, and not fetched from the Hub ({first_line(error)})") from None
