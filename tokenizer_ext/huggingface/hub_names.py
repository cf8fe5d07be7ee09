"""What may be a name on the Hugging Face Hub, and what is rather a mistyped path.

The Hub would be asked for a mistyped path too, which takes half a minute to fail where there is no network.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

OWNED_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DATASET_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?::(?P<configuration>[\w.-]+))?"
    r"(?:@(?P<split>[\w.-]+(?:\[[\d%:-]*\])?))?"
)
FILE_SUFFIX = re.compile(r"\.(jsonl?|[ct]sv|txt|md|ya?ml|xlsx|parquet|arrow|gz|zip|zst)", re.IGNORECASE)


def is_on_hub(name: str) -> bool:
    """Whether a name with an owner can be one of the Hub, and is no path of this machine.

    >>> is_on_hub("openai-community/gpt2"), is_on_hub("embedded"), is_on_hub("/home/somebody/model")
    (True, False, False)
    """
    return OWNED_NAME.fullmatch(name) is not None and not Path(name).exists()


def may_be_on_hub(name: str) -> bool:
    """Whether the Hub takes a name, also one without an owner.

    >>> may_be_on_hub("gpt2"), may_be_on_hub("my-name/my model"), may_be_on_hub("a/b/c")
    (True, False, False)
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def is_mistyped_path(name: str) -> bool:
    """Whether a name that is no folder here is a path and no name of the Hub: its parent is a folder here, or the like.

    >>> is_mistyped_path("/no/such/model"), is_mistyped_path("openai-community/gpt2")
    (True, False)
    """
    parent = Path(name).parent
    return not may_be_on_hub(name) or (parent != Path() and parent.is_dir())


@dataclass(frozen=True)
class HubDataset:
    """A data set on the Hub, as ``owner/name:configuration@split`` names it."""

    name: str
    configuration: str | None = None
    split: str | None = None


def dataset_on_hub(name: str) -> HubDataset | None:
    """The data set that a name stands for; None for what looks like a file.

    >>> dataset_on_hub("openai/gsm8k:main@test"), dataset_on_hub("my_chats.jsonl")
    (HubDataset(name='openai/gsm8k', configuration='main', split='test'), None)
    """
    found = DATASET_NAME.fullmatch(name)
    if found is None or FILE_SUFFIX.fullmatch(Path(found["name"]).suffix):
        return None
    return HubDataset(found["name"], found["configuration"], found["split"])
