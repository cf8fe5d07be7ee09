"""What `tokenizer.json` holds, parsed once for each tokenizer, and by what names the families are known."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.huggingface.tokenizer_state import kept_while_unchanged

_WHAT_WORKS = (
    "byte-level BPE (as in GPT-2, Llama 3, Qwen, OLMo, SmolLM2): learned words need it, and so do trim, audit and "
    "delta; tuning without --new_tokens works"
)
_FAMILIES = {
    "Unigram": "SentencePiece Unigram (as in T5, XLNet)",
    "WordPiece": "WordPiece (as in BERT)",
    "WordLevel": "whole words",
}


def parse_backend(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What `tokenizer.json` holds, without truncation and padding, for the caller to change.

    Only the parts of a merge are shared with other callers.

    Raises:
        InputError: the tokenizer has no fast backend.

    """
    content = _parsed(tokenizer)
    model = {name: part.copy() if isinstance(part, dict | list) else part for name, part in content["model"].items()}
    rest = {name: part for name, part in content.items() if name != "model"}
    return copy.deepcopy(rest) | {"model": model}


def backend_json(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What `tokenizer.json` holds, for a byte-level BPE tokenizer.

    Raises:
        InputError: it is another one; the message names its family.

    """
    backend = parse_backend(tokenizer)
    family = _other_family(backend)
    if family:
        raise InputError(f"tokenizer: found {family}, expected {_WHAT_WORKS}")
    return backend


def other_family(tokenizer: PreTrainedTokenizerFast) -> str:
    """The name of the tokenizer's family where it is not byte-level BPE with all bytes, else nothing."""
    family = _other_family(parse_backend(tokenizer))
    missing = b"" if family else missing_bytes(tokenizer)
    return f"byte-level BPE that lacks {len(missing)} of the 256 bytes" if missing else family


def missing_bytes(tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The bytes that a byte-level BPE vocabulary lacks, such as 21 of SmolLM2's: text with one loses or changes it.

    Raises:
        InputError: it is another tokenizer; the message names its family.

    """
    vocabulary = backend_json(tokenizer)["model"]["vocab"]
    return bytes([byte for byte in range(256) if visible(bytes([byte])) not in vocabulary])


def check_byte_level(tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuses a tokenizer that is no byte-level BPE.

    Raises:
        InputError: it is another one; the message names its family.

    """
    backend_json(tokenizer)


def _other_family(backend: Mapping[str, Any]) -> str:
    """The name of the tokenizer's family where it is not byte-level BPE, else nothing."""
    model = backend["model"]
    if model["type"] != "BPE":
        return _FAMILIES.get(model["type"], model["type"])
    if model["end_of_word_suffix"] or model["continuing_subword_prefix"]:
        return "BPE that marks the ends of words (as in CLIP)"
    if "ByteLevel" not in [*_stages(backend["pre_tokenizer"]), *_stages(backend["normalizer"])]:
        return "SentencePiece BPE (as in Llama 2, Gemma)" if model["byte_fallback"] else "BPE over characters"
    return ""


def _stages(stage: Mapping[str, Any] | None) -> list[str]:
    """The types of a normaliser or pre-tokenizer and of its parts."""
    if stage is None:
        return []
    parts = stage.get("pretokenizers", stage.get("normalizers", []))
    return [stage["type"], *(name for part in parts for name in _stages(part))]


@kept_while_unchanged
def _parsed(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
