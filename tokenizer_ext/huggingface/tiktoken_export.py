"""A Hugging Face tokenizer as a `tiktoken.Encoding` and as the readable twin: equal ids, proved or refused.

What stands where in the other form:

- merges: ranks. They are equal where each token comes, by the ranks below its own, to the very two parts that a merge
  joins, or where every way to join it is a merge (as in Llama 3); see `_check_ranks`.
- pre-tokenizer: one pattern, where there is one that cuts alike.
- added tokens: special tokens, found with `allowed_special="all"`. Runs of spaces (GPT-NeoX, OLMo 1) become ranks and a
  part of the pattern, since tiktoken looks for special tokens in no certain order; a merged token of as many spaces,
  which no text comes to, is left out.
- normaliser: has no place there. Where the tokenizer has one (NFC in Qwen, GPT-NeoX, OLMo 1), the ids are those of text
  that went through `normalized`, and the name of the encoding says so.
- post-processor: has no place there either; a bos that the tokenizer begins texts with is the caller's to put.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import regex
import tiktoken
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.tiktoken_files import to_tiktoken
from tokenizer_ext.huggingface.byte_level_backend import backend_json, missing_bytes
from tokenizer_ext.huggingface.encoder_proof import USE_THE_FILE, check_ranks, compare
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, ranks_of
from tokenizer_ext.huggingface.pattern_of_tokenizer import split_pattern_of, with_runs_of_spaces


def export_tiktoken(tokenizer: PreTrainedTokenizerFast, name: str) -> tiktoken.Encoding:
    """The encoding that gives the ids of `tokenizer`, without those that a post-processor puts around a text.

    Its name is `name`, with " of NFC text" behind it where the tokenizer normalises first: give it what `normalized`
    returns. Added tokens are found with `allowed_special="all"`.

    Raises:
        InputError: no encoding gives these ids; the message has the reason.

    """
    if missing := missing_bytes(tokenizer):
        raise InputError(
            f"tokenizer: found that it lacks {len(missing)} of the 256 bytes, expected all, as tiktoken does; "
            f"{USE_THE_FILE}"
        )
    normalizer = normalizer_name(tokenizer)
    encoding = to_tiktoken(_in_ranks(tokenizer), f"{name} of {normalizer} text" if normalizer else name)
    encode = partial(encoding.encode, allowed_special="all")
    compare(tokenizer, encode, partial(normalized, tokenizer=tokenizer), "tiktoken")
    return encoding


def twin_of(tokenizer: PreTrainedTokenizerFast) -> BytePairEncoding:
    """The readable twin of `tokenizer`, with what is said of `export_tiktoken`.

    A byte that the vocabulary lacks has an id after the last one in use here, and texts with it are not compared.
    """
    twin = _in_ranks(tokenizer)
    encode = partial(twin.encode, allowed_special="all")
    compare(tokenizer, encode, partial(normalized, tokenizer=tokenizer), "the twin")
    return twin


def normalizer_name(tokenizer: PreTrainedTokenizerFast) -> str:
    """What the tokenizer does to text first, such as "NFC", or nothing."""
    normalizer = backend_json(tokenizer)["normalizer"]
    if normalizer is None:
        return ""
    return "+".join(part["type"] for part in normalizer.get("normalizers", [normalizer]))


def normalized(text: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """`text` as the tokenizer's normaliser leaves it; added tokens that are looked for before that are unchanged."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is None:
        return text
    raw = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.normalized]
    pattern = regex.compile("|".join(map(regex.escape, sorted(raw, key=len, reverse=True))) or "(?!)")
    parts, start = [], 0
    for found in pattern.finditer(text):
        parts += [normalizer.normalize_str(text[start : found.start()]), found.group()]
        start = found.end()
    return "".join([*parts, normalizer.normalize_str(text[start:])])


def _in_ranks(tokenizer: PreTrainedTokenizerFast) -> BytePairEncoding:
    """Ranks, pattern and special tokens of `tokenizer`; the ranks are checked, the whole is not."""
    backend = backend_json(tokenizer)
    ranks, pattern = ranks_of(tokenizer), split_pattern_of(tokenizer)
    ranks |= {bytes([byte]): id_ for id_, byte in enumerate(missing_bytes(tokenizer), next_token_id(tokenizer))}
    check_ranks(ranks, backend["model"])
    _check_added_tokens(backend["added_tokens"])
    added = {token["content"]: token["id"] for token in backend["added_tokens"]}
    if runs := {token: id_ for token, id_ in added.items() if not token.strip(" ")}:
        pattern = with_runs_of_spaces(pattern, _longest_run(runs))
        ranks |= {token.encode(): id_ for token, id_ in runs.items()}
    return BytePairEncoding(ranks, pattern, {token: id_ for token, id_ in added.items() if token not in runs})


def _check_added_tokens(added_tokens: list[dict[str, Any]]) -> None:
    for token in added_tokens:
        if flag := next((flag for flag in ("single_word", "lstrip", "rstrip") if token[flag]), None):
            raise InputError(
                f"tokenizer: found the added token {token['content']!r} with {flag}, expected none, for tiktoken finds "
                f"special tokens wherever they stand; {USE_THE_FILE}"
            )


def _longest_run(runs: Mapping[str, int]) -> int:
    longest = max(map(len, runs))
    if set(map(len, runs)) != set(range(2, longest + 1)):
        raise InputError(
            f"tokenizer: found added runs of {', '.join(map(str, sorted(map(len, runs))))} spaces, expected every "
            f"length from 2 on; {USE_THE_FILE}"
        )
    return longest
