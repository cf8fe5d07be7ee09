"""The one door for a folder that somebody else made: what is found here is refused before any library opens it.

Only safetensors and JSON are opened, and only inside the folder. What is told by a file's beginning is told before the
model is built; what only running tells (a pipeline of a tokenizer) is tried in a process with limits.
"""

from pathlib import Path
from typing import Any

from configs import InputError
from configs.manifest import check_manifest
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.foreign.config_numbers import check_numbers
from tokenizer_ext.foreign.files_in_folder import check_files, weight_files
from tokenizer_ext.foreign.json_in_folder import read_object
from tokenizer_ext.foreign.named_code import check_named_code
from tokenizer_ext.foreign.pipeline_trial import try_pipeline
from tokenizer_ext.foreign.quantised_base import refuse_quantised, refuse_quantised_tensors
from tokenizer_ext.foreign.tokenizer_file import FILE, check_tokenizer_file, needs_trial
from tokenizer_ext.foreign.weight_headers import StoredTensor, read_headers

CONFIG = "config.json"
TOKENIZER_OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def check_model_folder(folder: Path, name: str | None = None) -> dict[str, StoredTensor]:
    """The stored weights of a model, by their headers; `name` is what the user called its folder.

    Raises:
        InputError: it is damaged, needs code, names files elsewhere, is quantised, or its config does not describe its
            weights.

    """
    config = _check(folder, name or str(folder))
    if (folder / ADAPTER_CONFIG).exists():  # the library would open the base that it names in place of this one
        raise InputError(
            f"{folder / ADAPTER_CONFIG}: lies beside a whole model, expected an adapter or a model: move it elsewhere"
        )
    tensors = read_headers(weight_files(folder))
    refuse_quantised_tensors(name or str(folder), tensors)
    check_numbers(config, tensors, folder / CONFIG)
    return tensors


def check_tokenizer_folder(folder: Path, name: str | None = None) -> dict[str, Any]:
    """What tokenizer.json holds, nothing where there is none; `name` is what the user called its folder.

    Raises:
        InputError: it is damaged, needs code, has two tokens with one id, a pipeline that runs away, or belongs to a
            quantised model.

    """
    _check(folder, name or str(folder))
    for file in TOKENIZER_OBJECTS:
        read_object(folder / file)
    content = check_tokenizer_file(folder)
    if needs_trial(content):
        try_pipeline(folder / FILE)
    return content


def _check(folder: Path, name: str) -> dict[str, Any]:
    check_manifest(folder)
    check_files(folder)
    config = read_object(folder / CONFIG)
    refuse_quantised(name, folder, config)
    check_named_code(folder)
    return config
