"""What a tokenizer is made of, to tell whether it is still the one that something was made from."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from configs import InputError

Made = TypeVar("Made")
_MODEL_FLAGS = ("ignore_merges", "byte_fallback", "fuse_unk", "dropout", "unk_token")


def kept_while_unchanged(
    make: Callable[[PreTrainedTokenizerFast], Made],
) -> Callable[[PreTrainedTokenizerFast], Made]:
    """`make`, which is called again for a tokenizer only after tokens were added to it, or its pipeline was changed.

    What is made must not hold the tokenizer, which would then be kept for ever.
    """
    made: WeakKeyDictionary[PreTrainedTokenizerFast, tuple[Any, Made]] = WeakKeyDictionary()

    @wraps(make)
    def keep(tokenizer: PreTrainedTokenizerFast) -> Made:
        check_fast(tokenizer)
        state = _state(tokenizer)
        known = made.get(tokenizer)
        if known is None or known[0] != state:
            known = made[tokenizer] = (state, make(tokenizer))
        return known[1]

    return keep


def check_fast(tokenizer: PreTrainedTokenizerFast) -> None:
    """Refuses a tokenizer without a fast backend.

    Raises:
        InputError: it has none.

    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(
            f"tokenizer: found {type(tokenizer).__name__} without a fast backend, expected one with a tokenizer.json"
        )


def pipeline_of(backend: Tokenizer) -> list[Any]:
    """All that makes ids of text, and text of ids, but for the vocabulary, merges and added tokens."""
    return [*map(_content, _stages(backend)), *_flags(backend.model)]


def what_decides_text(backend: Tokenizer) -> list[Any]:
    """Of that what ids and text depend on; not where the offsets of a byte-level token begin."""
    return [*what_decides_pieces(backend), *_flags(backend.model)]


def what_decides_pieces(backend: Tokenizer) -> list[Any]:
    """The same without what the model itself does."""
    normalizer, pre_tokenizer, post_processor, decoder = map(_content, _stages(backend))
    added = [part for part in _parts(post_processor) if part["type"] != "ByteLevel"]  # that one moves offsets only
    read_back = [{"type": part["type"]} if part["type"] == "ByteLevel" else part for part in _parts(decoder)]
    return [_without_offsets(normalizer), _without_offsets(pre_tokenizer), added, read_back]


def _stages(backend: Tokenizer) -> list[Any]:
    return [backend.normalizer, backend.pre_tokenizer, backend.post_processor, backend.decoder]


def _flags(model: Any) -> list[Any]:
    return [getattr(model, name, None) for name in _MODEL_FLAGS]


def _without_offsets(stage: Any) -> Any:
    if isinstance(stage, list):
        return [_without_offsets(part) for part in stage]
    if not isinstance(stage, dict):
        return stage
    return {name: _without_offsets(part) for name, part in stage.items() if name != "trim_offsets"}


def _parts(stage: Any) -> list[Any]:
    """The stages that a stage after the model is made of."""
    return [] if stage is None else stage.get("processors") or stage.get("decoders") or [stage]


def _state(tokenizer: PreTrainedTokenizerFast) -> list[Any]:
    backend: Tokenizer = tokenizer.backend_tokenizer
    added = [(id_, token.__getstate__()) for id_, token in sorted(backend.get_added_tokens_decoder().items())]
    return [id(backend), backend.get_vocab_size(with_added_tokens=False), added, *pipeline_of(backend)]


def _content(stage: Any) -> Any:
    return json.loads(stage.__getstate__()) if stage else None
