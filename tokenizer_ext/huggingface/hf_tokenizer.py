"""Hugging Face fast tokenizers: from ranks, into ranks, and with new tokens that move no old id.

Any family may get control tokens. New merges, which follow the old ones, are for byte-level BPE (GPT-2, Llama 3, Qwen)
and SentencePiece BPE (Llama 2, Gemma); ranks are for the first alone, whose tokens are bytes. Every new tokenizer is
rebuilt from the files that a reload reads, so what the caller holds is what `AutoTokenizer` will open.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.byte_characters import from_visible, visible
from tokenizer_ext.bpe.merge_learning import Merge, WholeToken
from tokenizer_ext.bpe.tiktoken_files import merges_from_ranks
from tokenizer_ext.bpe.written_tokens import Writing
from tokenizer_ext.huggingface.byte_level_backend import backend_json, bpe_json, parse_backend, writing_of
from tokenizer_ext.huggingface.rebuilt_tokenizer import rebuilt
from tokenizer_ext.huggingface.tokenizer_state import kept_while_unchanged

_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))  # in UTF-8, every byte of a character but the first


def to_hf_tokenizer(
    ranks: Mapping[bytes, int], special_tokens: Mapping[str, int], *, end_of_text: str = "<|endoftext|>"
) -> PreTrainedTokenizerFast:
    """The fast tokenizer with these ids: byte-level BPE cut by GPT-2's pattern, as GPT-2's own.

    `end_of_text` is its bos, eos and unk. Special tokens also stand in the model's vocabulary: tokenizers numbers those
    that do not anew at every load.
    """
    if end_of_text not in special_tokens:
        raise InputError(
            f"end_of_text: found {end_of_text!r}, expected one of the special tokens "
            f"({', '.join(special_tokens) or 'there are none'}); give it an id in special_tokens"
        )
    vocabulary = {visible(token): rank for token, rank in ranks.items()} | dict(special_tokens)
    merges = [(visible(left), visible(right)) for left, right in merges_from_ranks(ranks)]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    by_id = sorted(special_tokens, key=special_tokens.__getitem__)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in by_id])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=end_of_text,
        eos_token=end_of_text,
        unk_token=end_of_text,
        extra_special_tokens=[token for token in by_id if token != end_of_text],
        clean_up_tokenization_spaces=False,
    )


@kept_while_unchanged
def next_token_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id after the last one in use.

    `len(tokenizer)` would be an id in use wherever the vocabulary has holes.
    """
    return max(tokenizer.get_vocab().values()) + 1


def append_merges(tokenizer: PreTrainedTokenizerFast, merges: Sequence[Merge]) -> PreTrainedTokenizerFast:
    """A new tokenizer with `merges` after all of its own. Old ids are unmoved.

    Raises:
        InputError: the merges were learned for another vocabulary.

    """
    backend, writing = _for_change(tokenizer)
    vocabulary = backend["model"]["vocab"]
    taken = _ids_in_use(backend)
    texts = {id_: token for token, id_ in vocabulary.items()}
    expected_id = max(taken.values()) + 1
    for merge in merges:
        token = writing.write(merge.token_bytes)
        joined = texts.get(merge.left, "?") + texts.get(merge.right, "?")
        if merge.token != expected_id or joined != token or token in taken:
            raise InputError(
                f"merges: found {merge}, expected id {expected_id} and the bytes of its two parts, no token yet; "
                "learn it with count_pieces and token_bytes of this tokenizer and first_id=next_token_id(tokenizer)"
            )
        vocabulary[token] = taken[token] = expected_id
        texts[expected_id] = token
        backend["model"]["merges"].append([texts[merge.left], texts[merge.right]])
        expected_id += 1
    return rebuilt(tokenizer, backend)


def append_whole(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[WholeToken]) -> PreTrainedTokenizerFast:
    """A new tokenizer with tokens that no merge leads to, after all of its own. Old ids are unmoved.

    Raises:
        InputError: they were made for another vocabulary.

    """
    backend, writing = _for_change(tokenizer)
    taken = _ids_in_use(backend)
    for expected_id, token in enumerate(tokens, max(taken.values()) + 1):
        written = writing.write(token.token_bytes)
        if token.token != expected_id or written in taken:
            raise InputError(f"tokens: found {token}, expected id {expected_id} and text that is no token yet")
        backend["model"]["vocab"][written] = taken[written] = expected_id
    return rebuilt(tokenizer, backend)


def merges_from(tokenizer: PreTrainedTokenizerFast, first_new_id: int) -> list[Merge]:
    """The merges that lead to the ids from `first_new_id` on, in their order, with counts of 0: a folder keeps none."""
    model, read = bpe_json(tokenizer)["model"], writing_of(tokenizer).read
    vocabulary = model["vocab"]
    joined_pairs = [(left, right, left + right) for left, right in model["merges"]]
    return [
        Merge(vocabulary[left], vocabulary[right], vocabulary[joined], read(joined), 0)
        for left, right, joined in joined_pairs
        if vocabulary[joined] >= first_new_id
    ]


def add_control_tokens(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    """A new tokenizer, of any family, in which each of `tokens` is special, with the ids after the last one in use.

    They also stand in a vocabulary that has room for them, so that no reload can move them; no merge leads to them.

    Raises:
        InputError: a token is empty, repeated, in the vocabulary already, or overlaps a special token.

    """
    backend = parse_backend(tokenizer)
    taken = tokenizer.get_vocab()
    for id_, token in enumerate(tokens, max(taken.values()) + 1):
        _check_control_token(token, taken, [added["content"] for added in backend["added_tokens"]])
        taken[token] = id_
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        backend["added_tokens"].append({"id": id_, "content": token, **flags, "special": True})
    return rebuilt(tokenizer, backend, control_tokens=tokens)


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> dict[int, bytes]:
    """The bytes that each id in use stands for; for an added token, the UTF-8 of its text."""
    backend, read = bpe_json(tokenizer), writing_of(tokenizer).read
    bytes_of_id = {id_: _bytes_of(token, read) for token, id_ in backend["model"]["vocab"].items()}
    return bytes_of_id | {added["id"]: added["content"].encode() for added in backend["added_tokens"]}


def character_counts(tokenizer: PreTrainedTokenizerFast) -> dict[int, int]:
    """How many characters begin in each token in use, and at least 1: also a part of a character counts as one."""
    return {
        id_: max(1, len(token.translate(None, _CONTINUATION_BYTES))) for id_, token in token_bytes(tokenizer).items()
    }


def ranks_of(tokenizer: PreTrainedTokenizerFast) -> dict[bytes, int]:
    """The ids of single bytes and of what merges lead to, by their bytes, as tiktoken's ranks.

    Raises:
        InputError: merges are not in the order of their ids, for then the ids are no ranks.

    """
    backend = backend_json(tokenizer)
    model = backend["model"]
    vocabulary = model["vocab"]
    merged = [vocabulary[left + right] for left, right in model["merges"]]
    if merged != sorted(merged):
        raise InputError(
            "tokenizer: found merges that are not in the order of their ids, expected that order, in which ids are "
            "ranks; this vocabulary has no .tiktoken form, so use tokenizer.json"
        )
    reached = _led_to(model) | set(visible(bytes(range(256))))
    if model["ignore_merges"]:  # a piece that is a token as a whole becomes it, whether merges lead there or not
        reached |= set(vocabulary) - {added["content"] for added in backend["added_tokens"]}
    return {_bytes_of(token): id_ for token, id_ in vocabulary.items() if token in reached}


def _for_change(tokenizer: PreTrainedTokenizerFast) -> tuple[dict[str, Any], Writing]:
    bpe_json(tokenizer)  # refuses another family
    return parse_backend(tokenizer), writing_of(tokenizer)


def _ids_in_use(backend: Mapping[str, Any]) -> dict[str, int]:
    return backend["model"]["vocab"] | {added["content"]: added["id"] for added in backend["added_tokens"]}


def _led_to(model: Mapping[str, Any]) -> set[str]:
    """The tokens that merges make."""
    return {left + right for left, right in model["merges"]}


def _bytes_of(token: str, read: Callable[[str], bytes] = from_visible) -> bytes:
    try:
        return read(token)
    except KeyError:  # a special token, written as it reads
        return token.encode()


def _check_control_token(token: str, vocabulary: Mapping[str, int], added: Sequence[str]) -> None:
    found = ""
    if not token:
        found = "an empty token"
    elif token in vocabulary:
        found = f"{token!r}, which is id {vocabulary[token]} already"
    elif overlapping := [other for other in added if other in token or token in other]:
        found = f"{token!r}, which overlaps the added token {overlapping[0]!r}"
    elif not token.isprintable():
        found = f"{token!r}, which holds a character that does not print"
    if found:
        raise InputError(f"tokens: found {found}, expected text that is no token yet; choose another name")
