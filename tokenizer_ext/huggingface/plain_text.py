"""Text read as text by any fast tokenizer: what reads like a control token stays letters and signs.

Added tokens are of two kinds. Control tokens mark what a template or a program put there: special ones, and others such
as Qwen3's `<think>` or Gemma's `<unused12>`. Ordinary ones are text that the base learned as one token: runs of spaces
(GPT-NeoX), of line breaks, and HTML tags (Gemma 3). A reader of plain text has the second kind only.
"""

import json
import re
import secrets
from collections.abc import Collection
from itertools import chain
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.huggingface.byte_level_backend import parse_backend
from tokenizer_ext.huggingface.tokenizer_state import check_fast, kept_while_unchanged

_SPACES = " \n\t\r▁"
# Elements of HTML; of all that a vocabulary adds in angle brackets only these are known to be no control token.
_HTML_TAG = re.compile(
    r"</?(?:a|abbr|article|aside|b|big|blockquote|body|br|caption|center|cite|code|col|colgroup|dd|del|div|dl|dt|em"
    r"|figcaption|figure|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|main|mark|nav|ol|p"
    r"|pre|q|s|samp|section|small|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul|var)>"
)


def control_tokens_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The control tokens among the added tokens, with their ids: `plain_text_encoder` makes none of them of a text.

    One exception: a special token that is also a piece of ordinary text (padding named "!") is what that text becomes.
    """
    check_fast(tokenizer)
    backend: Tokenizer = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder().items()
    return {token.content: id_ for id_, token in added if not _is_ordinary(token, backend)}


@kept_while_unchanged
def plain_text_encoder(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The same pipeline without control tokens, so that no text can become one; built once, so do not change it.

    It adds no bos or eos, cuts nothing off and pads nothing. On text without the name of a control token it gives the
    tokenizer's own ids. Characters that the vocabulary lacks become its unknown token, or nothing where it has none.

    Raises:
        InputError: the tokenizer has no fast backend.

    """
    control = control_tokens_of(tokenizer)
    backend: Tokenizer = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder().items()
    ordinary = {id_: token for id_, token in added if token.content not in control}
    moved = any(backend.model.token_to_id(token.content) != id_ for id_, token in ordinary.items())
    if moved or _ends_with_unknown(tokenizer) or _model_makes(control, backend.model):
        return _without_control_tokens(tokenizer, control)
    encoder = Tokenizer(backend.model)  # shared with the tokenizer: a copy of a large vocabulary takes seconds
    encoder.normalizer, encoder.pre_tokenizer, encoder.decoder = (
        backend.normalizer,
        backend.pre_tokenizer,
        backend.decoder,
    )
    encoder.add_tokens(list(ordinary.values()))
    return encoder


def merging_encoder(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A plain text encoder in which merges alone decide (`ignore_merges` is off), for BPE; do not change it."""
    encoder = plain_text_encoder(tokenizer)
    if not encoder.model.ignore_merges:
        return encoder
    encoder = Tokenizer.from_str(encoder.to_str())  # for the model is shared with the tokenizer
    encoder.model.ignore_merges = False
    return encoder


def _is_ordinary(token: AddedToken, backend: Tokenizer) -> bool:
    """Whether an added token is text that the base learned as one token."""
    if token.special:
        return False
    if token.content and not token.content.strip(_SPACES):
        return True
    is_tag = _HTML_TAG.fullmatch(token.content) is not None
    return is_tag and backend.model.token_to_id(token.content) is not None


def _ends_with_unknown(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the token for characters that a BPE vocabulary lacks is also one that a program puts into text."""
    unknown = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    return unknown is not None and unknown in (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token)


def _model_makes(control: Collection[str], model: Any) -> bool:
    """Whether the model itself, which knows nothing of added tokens, could make a control token of a text.

    BPE makes a token within any text only if it makes it of the token's characters alone.
    """
    known = [token for token in control if model.token_to_id(token) is not None]
    if type(model).__name__ != "BPE" or model.ignore_merges or model.dropout:
        return bool(known)
    return any([made.id for made in model.tokenize(token)] == [model.token_to_id(token)] for token in known)


def _without_control_tokens(tokenizer: PreTrainedTokenizerFast, control: Collection[str]) -> Tokenizer:
    """The pipeline with another model, in which nobody can spell what was a control token."""
    backend = parse_backend(tokenizer)
    model = backend["model"]
    backend["added_tokens"] = [added for added in backend["added_tokens"] if added["content"] not in control]
    backend["post_processor"] = None
    if isinstance(model["vocab"], list):
        _hide_pieces(model, control, backend["added_tokens"])
    else:
        if model["type"] == "BPE" and _ends_with_unknown(tokenizer):
            model["unk_token"] = None
        for added in backend["added_tokens"]:  # a load numbers what stands beside the vocabulary anew
            model["vocab"].setdefault(added["content"], added["id"])
        _drop_tokens(model, set(control))
    return Tokenizer.from_str(json.dumps(backend))


def _drop_tokens(model: dict[str, Any], control: set[str]) -> None:
    """Take control tokens out of a vocabulary by name, but for those that are also text, and hide the unknown token."""
    vocabulary = model["vocab"]
    if model["type"] == "BPE":
        parts = set(chain.from_iterable(model["merges"]))
        control = {token for token in control if token not in parts and len(token) > 1}
        model["merges"] = [pair for pair in model["merges"] if "".join(pair) not in control]
    unknown = model.get("unk_token")
    if unknown in control and unknown in vocabulary:
        model["unk_token"] = _unwritable()
        vocabulary[model["unk_token"]] = vocabulary[unknown]
    for token in control:
        vocabulary.pop(token, None)


def _hide_pieces(model: dict[str, Any], control: Collection[str], ordinary: list[dict[str, Any]]) -> None:
    """Rename control tokens in a vocabulary by place (Unigram), whose scores and numbers must stay."""
    pieces = model["vocab"]
    for added in ordinary:
        while len(pieces) <= added["id"]:
            pieces.append([_unwritable(), 0.0])
        pieces[added["id"]] = [added["content"], pieces[added["id"]][1]]
    for place, (piece, score) in enumerate(pieces):
        if piece in control:
            pieces[place] = [_unwritable(), score]


def _unwritable() -> str:
    """A name that no text holds but by a chance of one in 2 to the 128."""
    return f"\U0010fffe{secrets.token_hex(16)}"
