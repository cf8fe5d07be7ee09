"""What two names on the command line stand for, opened as the sides of a comparison."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel

from configs import InputError
from configs.file_hash import file_sha256
from finetune.conversations.formats import Conversation, Message
from finetune.decoding.decoders import decodes_by_parts
from finetune.export.saved_model import find_base, find_model, load_assistant
from finetune.lora.base_under_adapter import difference_below, has_adapters
from finetune.replies.local_side import LocalSide
from finetune.replies.served_side import ServedSide
from finetune.replies.server import connect
from finetune.replies.server_address import is_server, read_address
from finetune.replies.side import Side, asked_as, format_for_a_prompt
from finetune.replies.side_settings import FormatChoice, SideSettings
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.run_folder import find_recorded
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer
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
    if "tuned" not in opened:
        opened["tuned"] = open_local(tuned)
    if "base" not in opened:
        other = opened["tuned"]
        opened["base"] = open_beside(other, base) if isinstance(other, LocalSide) else open_local(base)
    return opened["base"], opened["tuned"]


def open_beside(tuned: LocalSide, name: str) -> LocalSide:
    """The base: where the tuned model is an adapter on exactly these weights, the weights that lie under it.

    Exactly is bit for bit, and the model has to decode by parts, which let each row of a batch go through the adapter
    or not. Otherwise the base is read for itself, and the side says why.

    Raises:
        InputError: there is no such model.

    """
    path = find_model(name)
    if not has_adapters(tuned.model) or (path / ADAPTER_CONFIG).is_file():
        return open_local(name)
    folder = Path(plain_folder(str(path)))
    why_apart = difference_below(tuned.model, folder) if (folder / "config.json").is_file() else "it is no folder"
    if not why_apart and not decodes_by_parts(tuned.model):
        why_apart = f"a {type(tuned.model).__name__} with such an adapter decodes through its own forward"
    if why_apart:
        return replace(open_local(name), why_apart=why_apart)
    tokenizer = load_tokenizer(str(path))
    return LocalSide(
        name,
        identify(_weights(name, path)),
        tuned.model,
        tokenizer,
        find_recorded(path, "template_options") or {},
        generation_config=_generation_config(folder, tuned.model),
        of_base=True,
    )


def choose_base(base: str | None, tuned: str) -> str:
    """The base of a comparison: the one given, else the one in the run's record.

    Raises:
        InputError: neither says it.

    """
    found = base or (None if is_server(tuned) else find_base(tuned))
    if found is None:
        raise InputError(f"base: no run.json in {tuned} says what it was made from: pass --base")
    return found


def open_local(name: str) -> LocalSide:
    """A model whose weights are, or are fetched to, this machine, on its accelerator where there is one.

    Raises:
        InputError: there is no such model.

    """
    path = find_model(name)
    model, tokenizer = load_assistant(name, to_ask=True)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    identity = identify(_weights(name, path))
    return LocalSide(name, identity, model, tokenizer, find_recorded(path, "template_options") or {})


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


def _weights(name: str, path: Path) -> Path:
    """What identifies a model: a GGUF file is known by its own hash, not by that of the folder that it became."""
    return Path(name) if name.endswith(".gguf") else path


def _generation_config(folder: Path, model: PreTrainedModel) -> GenerationConfig:
    """The one that transformers gives a model of the folder."""
    if (folder / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(folder)
    return GenerationConfig.from_model_config(model.config)


def open_server(name: str, variable: str = SideSettings.base_key_variable) -> ServedSide:
    """A model on a server, which answers.

    Raises:
        InputError: it does not, or the key is not set.

    """
    return _open_server(name, "chat", variable, SideSettings())


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
