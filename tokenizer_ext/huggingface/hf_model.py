"""A causal language model and its tokenizer, read from a folder or from the Hugging Face Hub.

Only safetensors are read, and no code that comes with a model is run. `tokenizer_ext/foreign/` looks through the folder
before a library opens it.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput
from configs.one_line_ending import say
from configs.read_in_one_line import read_in_one_line
from tokenizer_ext.foreign.checked_folder import check_model_folder, check_tokenizer_folder
from tokenizer_ext.foreign.config_numbers import check_size
from tokenizer_ext.foreign.named_code import forget_named_code
from tokenizer_ext.foreign.tokenizer_file import check_vocabulary
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hub_folder import TOKENIZER_FILES, download, fetch
from tokenizer_ext.huggingface.hub_names import is_mistyped_path
from tokenizer_ext.huggingface.rebuilt_tokenizer import as_published
from tokenizer_ext.pages.progress import progress, tracked

EXPECTED = (
    "expected a folder with config.json, model.safetensors and tokenizer.json, "
    "or a Hub name such as openai-community/gpt2"
)


NUMBERS_AT_ONCE = 2**22
"""That are looked at: what looking makes of a whole table would be the largest thing in memory."""


def load_tokenizer(name_or_folder: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model: of a folder, a Hub name, a GGUF file, or `smollm2`.

    Raises:
        InputError: there is none, it is damaged, or the model's weights are quantised.

    """
    name_or_folder = plain_folder(name_or_folder)
    path = _folder_of(name_or_folder)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):  # the folder of an adapter has no config.json
        _check_place(name_or_folder, path)
        # Without them transformers makes a tokenizer with hardly a token, and says nothing.
        raise MissingInput(f"{name_or_folder}: holds no tokenizer.json, {EXPECTED}")
    content = check_tokenizer_folder(path, name_or_folder)
    with (
        read_in_one_line(f"{name_or_folder}: no tokenizer", EXPECTED),
        progress(f"reading the tokenizer of {name_or_folder}"),
    ):
        tokenizer = as_published(AutoTokenizer.from_pretrained(path, trust_remote_code=False), path, content)
        check_vocabulary(tokenizer.get_vocab(), name_or_folder)
        tokenizer.name_or_path = name_or_folder
        forget_named_code(tokenizer.init_kwargs)
        return tokenizer


def load_model(name_or_folder: str, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
    """The causal model, named as its tokenizer, in evaluation mode; with "auto" in the type that it is stored in.

    Raises:
        InputError: there is none, it is damaged, its weights are quantised, or one is missing or not finite.

    """
    model = map_model(name_or_folder, dtype)
    check_finite(model, model.name_or_path)
    return model


def map_model(name_or_folder: str, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """The same before any number is looked at: weights in the type that they are stored in are not read yet.

    Raises:
        InputError: there is none, it is damaged, its weights are quantised, or one is missing.

    """
    name_or_folder = plain_folder(name_or_folder)
    path = _folder_of(name_or_folder)
    _check_place(name_or_folder, path)
    tensors = check_model_folder(path, name_or_folder)
    with (
        read_in_one_line(f"{name_or_folder}: no causal model", EXPECTED),
        progress(f"reading the model {name_or_folder}"),
    ):
        check_size(path, tensors)
        model, report = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    if hasattr(model.config, "auto_map"):
        say(f"{name_or_folder}: the code that comes with it (auto_map) is not run, transformers' own is", sys.stderr)
        forget_named_code(model.config.__dict__)
    model.name_or_path = model.config._name_or_path = name_or_folder
    if missing := sorted(report["missing_keys"]):  # transformers only warns, and fills them with random numbers
        raise InputError(
            f"{name_or_folder}: its weights lack {missing[0]}, expected every weight of {type(model).__name__}: "
            "get the model anew"
        )
    return model.eval()


def positions_of(model: PreTrainedModel) -> int | None:
    """How many tokens the model can read at once; None where its config sets no limit.

    A model that also sees or hears keeps it in the config of its part for text.
    """
    return positions_in(model.config)


def positions_in(config: PreTrainedConfig) -> int | None:
    """The same of a config without its model."""
    positions: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions


def check_finite(model: nn.Module, where: str, parts: Callable[[Tensor], Iterable[Tensor]] | None = None) -> None:
    """Refuses a model with a weight that is NaN or infinite; `where` names the model in the error.

    With `parts` the numbers of a weight are read as that gives them.
    """
    for name, tensor in tracked(list(model.named_parameters()), "checking the weights", "tensors"):
        for part in (tensor.detach(),) if parts is None else parts(tensor):
            expect_finite(part, name, where)


def expect_finite(weight: Tensor, name: str, where: str) -> None:
    """Refuses a weight that holds NaN or infinity; what is quantised holds whole numbers."""
    parts = weight.reshape(-1).split(NUMBERS_AT_ONCE) if weight.is_floating_point() else ()
    if not all(torch.isfinite(part).all() for part in parts):
        raise InputError(f"{where}: {name} holds NaN or infinity, expected finite weights: get the model anew")


def _folder_of(name: str) -> Path:
    path = fetch(name)
    # A name without an owner may be of the Hub too, as gpt2 is; most are mistyped.
    return download(name) if not path.exists() and not is_mistyped_path(name) else path


def _check_place(name_or_folder: str, path: Path) -> None:
    if path.is_file():
        raise InputError(f"{name_or_folder}: is a file, {EXPECTED}")
    if path.is_dir() and not (path / "config.json").is_file():
        raise MissingInput(f"{name_or_folder}: holds no config.json, {EXPECTED}")
    if not path.exists():
        raise MissingInput(f"{name_or_folder}: no such folder, {EXPECTED}")
