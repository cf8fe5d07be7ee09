"""Whether another encoder gives the ids of a tokenizer: of ranks by reasoning, of the whole by trial."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.piece_encoding import merge_by_rank
from tokenizer_ext.huggingface.byte_level_backend import missing_bytes
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes

USE_THE_FILE = "this tokenizer has no tiktoken form, so use tokenizer.json"

# Characters of every kind that a pattern may tell apart: letters and marks, numbers, blanks, signs, unassigned ones.
CHARACTERS = [
    *("a", "Z", "s", "t", "ll", "VE", "é", "e\u0301", "\u0301", "ß", "ſ", "дор", "日本", "の", "한", "ा", "\U0003fc3f"),
    *("0", "1", "23", "4567", "½", "٣", "Ⅷ", "\U00011de0"),
    *(
        " ",
        " ",
        " ",
        "  ",
        "   ",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\t",
        "\u00a0",
        "\u2028",
        "\u3000",
        "\u0085",
        "\x00",
        "\x1f",
    ),
    *("'", "'", "’", *'!?.,;:()[]{}<|>/\\_-+=$#@"', "…", "🙂", "👩\u200d🚀", "\ufeff", "\u0378", "\ue000"),
]


def check_ranks(ranks: Mapping[bytes, int], model: Mapping[str, Any]) -> None:
    """Refuse ranks by which tiktoken, which looks up joined bytes, could join what the tokenizer's pairs do not.

    Let t be a token whose bytes, alone and with the ranks below its own, come to two parts A and B. A span of text that
    no token crosses goes through the same steps as alone, so of all pairs that spell t only A, B can stand side by
    side in it: it is enough that A, B is a merge. Of any other token, every way to spell it must be one.
    """
    merges = set(map(tuple, model["merges"]))
    if model["dropout"]:
        raise InputError(f"tokenizer: found dropout, expected none; {USE_THE_FILE}")
    for token, rank in ranks.items():
        parts = merge_by_rank(token, ranks, below=rank)
        reached = len(parts) == 1 or (len(parts) == 2 and tuple(map(visible, parts)) in merges)
        if not reached and not (model["ignore_merges"] and _every_split_is_a_merge(token, ranks, merges)):
            raise InputError(
                f"tokenizer: found the token {token!r} (id {rank}), which tiktoken would join from other parts than "
                f"the merges do, expected the same parts; {USE_THE_FILE}"
            )


def _every_split_is_a_merge(token: bytes, ranks: Mapping[bytes, int], merges: set[tuple[str, ...]]) -> bool:
    splits = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
    return all((visible(left), visible(right)) in merges for left, right in splits if left in ranks and right in ranks)


def compare(
    tokenizer: PreTrainedTokenizerFast, encode: Callable[[str], list[int]], normalize: Callable[[str], str], who: str
) -> None:
    """Refuse an encoder that gives other ids than `tokenizer` for any of some thousand texts.

    They are the same every time: every token thrice, every added token in many places, and every kind of character
    beside every other. Left out are those with a byte that the vocabulary lacks.
    """
    missing = set(missing_bytes(tokenizer))
    texts = [text for text in trial_texts(tokenizer) if missing.isdisjoint(text.encode())]
    expected = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    for text, encoding in zip(texts, expected, strict=True):
        if (ids := encode(normalize(text))) != encoding.ids:
            raise InputError(
                f"tokenizer: found that {who} reads {text[:60]!r} as {ids[:20]}, expected {encoding.ids[:20]}; "
                f"{USE_THE_FILE}"
            )


def trial_texts(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Some thousand texts, the same every time: tokens thrice, added tokens in many places, all kinds of characters."""
    chance = random.Random(0)
    added = list(tokenizer.get_added_vocab())
    plain = ["".join(chance.choices(CHARACTERS, k=chance.randrange(1, 12))) for _ in range(1_500)]
    mixed = ["".join(chance.choices([*CHARACTERS, *added], k=12)) for _ in range(1_000 if added else 0)]
    tokens = [3 * token.decode(errors="replace") for token in token_bytes(tokenizer).values()]
    joined = ["".join(tokens[start : start + 50]) for start in range(0, len(tokens), 50)]
    return [*plain, *mixed, *added, *joined]
