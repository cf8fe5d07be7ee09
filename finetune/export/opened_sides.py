"""What two names on the command line stand for, opened as the sides of a comparison."""

import hashlib
import os
from pathlib import Path

import torch

from configs import InputError
from configs.file_hash import file_sha256
from finetune.conversations.formats import Conversation, Message
from finetune.export.adapter_files import ADAPTER_CONFIG
from finetune.export.saved_model import find_model, load_assistant
from finetune.replies.local_side import LocalSide
from finetune.replies.served_side import ServedSide
from finetune.replies.server import connect
from finetune.replies.server_address import is_server, read_address
from finetune.replies.side import Side, asked_as, format_for_a_prompt
from finetune.replies.side_settings import FormatChoice, SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.run_folder import find_recorded
from tokenizer_ext.pages.progress import progress, shown

SHOWN_DIGITS = 12
TRIAL = Conversation((Message("user", "1+1?"), Message("assistant", "")), source="a first question")
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


def open_both(base: str, tuned: str, settings: SideSettings) -> tuple[Side, Side]:
    """Both sides, servers first: whether one answers is known before any weights load.

    Raises:
        InputError: one of them cannot be opened, or a server does not answer.

    """
    named = {
        "base": (base, settings.base_format, settings.base_key_variable),
        "tuned": (tuned, settings.tuned_format, settings.tuned_key_variable),
    }
    opened: dict[str, Side] = {
        which: _open_server(name, choice, variable, settings)
        for which, (name, choice, variable) in named.items()
        if is_server(name)
    }
    for which in ("tuned", "base"):
        if which not in opened:
            opened[which] = open_local(named[which][0])
    return opened["base"], opened["tuned"]


def open_local(name: str) -> LocalSide:
    """A model whose weights are, or are fetched to, this machine, on its accelerator where there is one.

    Raises:
        InputError: there is no such model.

    """
    path = find_model(name)
    model, tokenizer = load_assistant(name)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    # A GGUF file is known by its own hash, not by that of the folder that it became.
    weights = Path(name) if name.endswith(".gguf") else path
    return LocalSide(name, identify(weights), model, tokenizer, find_recorded(path, "template_options") or {})


@shown("hashing the weights")
def identify(path: Path) -> str:
    """The sha256 of the weights in a folder, of several files that of their hashes, or of a file; its beginning.

    Raises:
        InputError: there are none.

    """
    files = [path] if path.is_file() else sorted({file for pattern in WEIGHTS for file in path.glob(pattern)})
    hashes = [file_sha256(file) for file in files]
    whole = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    what = "adapter, sha256" if (path / ADAPTER_CONFIG).is_file() else "sha256"
    return f"{what} {whole[:SHOWN_DIGITS]}"


def _open_server(name: str, choice: FormatChoice, variable: str, settings: SideSettings) -> ServedSide:
    address = read_address(name)
    with progress(f"waiting for {address.url}"):  # it may load its model first
        server = connect(address, read_key(variable), settings.server_seconds, settings.server_requests)
        side = ServedSide(name, server)
        asked_as(side, format_for_a_prompt(side, choice, "question")).answer([TRIAL], 1, Sampling(temperature=0))
    return side


def read_key(variable: str) -> str | None:
    """The API key in an environment variable; None where the usual one is not set, since many servers ask for none.

    Raises:
        InputError: another variable was named, and it is not set.

    """
    key = os.environ.get(variable)
    if not key and variable != SideSettings.base_key_variable:  # a name that is none may be the key itself: not shown
        raise InputError("key_variable: the environment variable that was named for an API key is not set: export it")
    return key or None
