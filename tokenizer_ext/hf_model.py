"""A causal language model and its tokenizer, read from a folder or from the Hugging Face Hub."""

import os
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput

EXPECTED = "expected a folder with config.json, model.safetensors and tokenizer.json, or a Hub name such as openai-community/gpt2"


def load_tokenizer(name_or_folder: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model.

    Raises:
        InputError: there is none.

    """
    _check_place(name_or_folder)
    try:
        return AutoTokenizer.from_pretrained(name_or_folder)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name_or_folder}: no tokenizer ({_short(error)}): {EXPECTED}") from None


def load_model(name_or_folder: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The causal model, in evaluation mode. Only safetensors are read, and no code that comes with a model is run.

    Raises:
        InputError: there is none, or a weight is not finite.

    """
    _check_place(name_or_folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(name_or_folder, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{name_or_folder}: no causal model ({_short(error)}): {EXPECTED}") from None
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise InputError(
                f"{name_or_folder}: {name} holds NaN or infinity, expected finite weights: get the model anew"
            )
    return model.eval()


def _check_place(name_or_folder: str) -> None:
    path = Path(name_or_folder)
    looks_local = (
        name_or_folder.startswith((".", "/", "~")) or name_or_folder.count("/") > 1 or os.sep + os.sep in name_or_folder
    )
    if path.is_file():
        raise InputError(f"{name_or_folder}: is a file, {EXPECTED}")
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{name_or_folder}: holds no config.json, {EXPECTED}")
    if looks_local and not path.exists():
        raise MissingInput(f"{name_or_folder}: no such folder, {EXPECTED}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
