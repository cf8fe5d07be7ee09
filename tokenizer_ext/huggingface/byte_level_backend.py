"""What `tokenizer.json` holds, parsed once for each tokenizer, and by what names the families are known."""

import copy
import json
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.written_tokens import BYTES, MARK, MARKED, Writing, byte_token
from tokenizer_ext.huggingface.tokenizer_state import kept_while_unchanged

_BYTE_LEVEL = "byte-level BPE (as in GPT-2, Llama 3, Qwen, OLMo, SmolLM2)"
_SPM = "SentencePiece BPE (as in Llama 2, Gemma)"
_WHAT_WORKS = f"{_BYTE_LEVEL}: trim and audit need it, and so does the form of tiktoken"
_WHAT_LEARNS = f"{_BYTE_LEVEL} or {_SPM}: learned words need it, and so does delta; tuning without --new_tokens works"
_NEEDED = {
    "Unigram": "; new tokens there would need scores, learned with those of all others, which could move old text",
    "WordPiece": "; the longest token wins there, so new ones would cut old words otherwise",
}
_SPM_STAGES = (  # what spaces become, and Gemma's split at spaces, of which none is left by then
    {"type": "Prepend", "prepend": MARK},
    {"type": "Replace", "pattern": {"String": " "}, "content": MARK},
    {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
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
    added = [token.copy() for token in content["added_tokens"]]
    rest = {name: part for name, part in content.items() if name not in ("model", "added_tokens")}
    return copy.deepcopy(rest) | {"added_tokens": added, "model": model}


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


def bpe_json(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What `tokenizer.json` holds, for a tokenizer that merges can be appended to: byte-level or SentencePiece BPE.

    It is shared, so do not change it; `parse_backend` gives what may be changed.

    Raises:
        InputError: it is another one; the message names its family and what new tokens there would need.

    """
    backend = _parsed(tokenizer)
    family = _other_family(backend)
    if not family or _is_spm(backend):
        return backend
    needed = _NEEDED.get(backend["model"]["type"], "")
    raise InputError(f"tokenizer: found {family}, expected {_WHAT_LEARNS}{needed}")


@kept_while_unchanged
def is_spm(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer is SentencePiece BPE as published: bytes to fall back to, spaces as "▁", text not cut."""
    return _is_spm(_parsed(tokenizer))


def writing_of(tokenizer: PreTrainedTokenizerFast) -> Writing:
    """How its `tokenizer.json` writes tokens."""
    return MARKED if is_spm(tokenizer) else BYTES


def other_family(tokenizer: PreTrainedTokenizerFast) -> str:
    """The name of the tokenizer's family where it is not byte-level BPE with all bytes, else nothing."""
    family = _other_family(_parsed(tokenizer))
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
        return _spm_family(backend) if model["byte_fallback"] else "BPE over characters"
    return ""


def _is_spm(backend: Mapping[str, Any]) -> bool:
    return _other_family(backend) == _SPM


def _spm_family(backend: Mapping[str, Any]) -> str:
    """The name of the SentencePiece BPE family, and what is unusual in it."""
    stages = [*_parts(backend["normalizer"]), *_parts(backend["pre_tokenizer"])]
    unusual = [stage["type"] for stage in stages if stage not in _SPM_STAGES]
    if unusual:
        return f"{_SPM} with {', '.join(unusual)} as well"
    missing = sum(byte_token(byte) not in backend["model"]["vocab"] for byte in range(256))
    return f"{_SPM} that lacks {missing} of the 256 bytes to fall back to" if missing else _SPM


def _stages(stage: Mapping[str, Any] | None) -> list[str]:
    """The types of a normaliser or pre-tokenizer and of its parts."""
    return [part["type"] for part in _parts(stage)]


def _parts(stage: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """A normaliser or pre-tokenizer taken apart."""
    if stage is None:
        return []
    parts = stage.get("pretokenizers", stage.get("normalizers"))
    return [stage] if parts is None else [one for part in parts for one in _parts(part)]


@kept_while_unchanged
def _parsed(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
