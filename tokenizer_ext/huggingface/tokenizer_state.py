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
_MODEL_FLAGS = ("byte_fallback", "fuse_unk", "dropout", "unk_token")


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
    flags = [getattr(backend.model, name, None) for name in _MODEL_FLAGS]
    return [*cutting_of(backend), _content(backend.post_processor), _content(backend.decoder), *flags]


def cutting_of(backend: Tokenizer) -> list[Any]:
    """What cuts a text into pieces."""
    stages = [_content(backend.normalizer), _content(backend.pre_tokenizer)]
    return [*stages, getattr(backend.model, "ignore_merges", None)]


def _state(tokenizer: PreTrainedTokenizerFast) -> list[Any]:
    backend: Tokenizer = tokenizer.backend_tokenizer
    added = [(id_, token.__getstate__()) for id_, token in sorted(backend.get_added_tokens_decoder().items())]
    return [id(backend), backend.get_vocab_size(with_added_tokens=False), added, *pipeline_of(backend)]


def _content(stage: Any) -> Any:
    return json.loads(stage.__getstate__()) if stage else None
