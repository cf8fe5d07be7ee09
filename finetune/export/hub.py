"""Finished models to and from the Hugging Face Hub."""

import re
from pathlib import Path

from huggingface_hub import HfApi, get_token, snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from configs import InputError, MissingInput

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
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
            f"push_to_hub {repository}: not uploaded ({_reason(error)}); the model is whole in {folder}: "
            f"upload it later with `hf upload {repository} {folder}`"
        ) from None
    return str(created)


def check_repository(repository: str) -> None:
    """Refuses, before anything is trained, a name that the Hub would not take, or a machine that is not logged in.

    Raises:
        InputError: one of them.

    """
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise InputError(
            f"push_to_hub: found {repository!r}, expected the name of a repository such as my-name/my-model"
        ) from None
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
    # Of a mistyped path the Hub would be asked too, which takes long to fail where there is no network.
    if path.exists() or path.parent.is_dir() or not is_on_hub(str(model)):
        return path
    try:
        return Path(snapshot_download(str(model), allow_patterns=MODEL_FILES))
    except Exception as error:
        raise MissingInput(f"{model}: no such folder, and not fetched from the Hub ({_reason(error)})") from None


def is_on_hub(name: str) -> bool:
    """Whether a name can be one of the Hub, and is no path of this machine.

    >>> is_on_hub("openai-community/gpt2"), is_on_hub("embedded"), is_on_hub("/home/somebody/model")
    (True, False, False)
    """
    return HUB_NAME.fullmatch(name) is not None and not Path(name).exists()


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
