"""The tokenizer of a model by the model's place, without a weight of it; the last few are kept."""

from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from finetune.export.adapter_base import base_of_adapter
from finetune.export.saved_model import find_model, tokenizer_folder
from tokenizer_ext.foreign.adapter_folder import ADAPTER_CONFIG
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hub_folder import TOKENIZER_FILES

KEPT = 6
"""A vocabulary of 256,000 tokens takes some 100 MB."""


def own_tokenizer(place: str) -> PreTrainedTokenizerFast:
    """The tokenizer that a model is asked with: of an adapter the one beside it, or that of its base.

    Raises:
        InputError: there is no such model, or no tokenizer of it.
    """
    folder = find_model(place)
    if (folder / ADAPTER_CONFIG).is_file():
        folder = tokenizer_folder(folder, base_of_adapter(folder))
    plain = Path(plain_folder(str(folder)))
    files = [plain / name for name in TOKENIZER_FILES if (plain / name).is_file()]
    return _read(str(folder), max((file.stat().st_mtime_ns for file in files), default=0))


@lru_cache(maxsize=KEPT)
def _read(folder: str, _changed: int) -> PreTrainedTokenizerFast:
    return load_tokenizer(folder)
