"""Characters that a SentencePiece vocabulary writes as bytes, and which of them get a token of their own.

The model splits text into characters before it merges any, so a token of one character needs no merge: it stands where
its two to four byte tokens stood. Merges can then join it, as they can join no byte token.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.merge_learning import WholeToken
from tokenizer_ext.bpe.written_tokens import MARK, byte_token
from tokenizer_ext.huggingface.byte_level_backend import bpe_json, is_spm


def choose_characters(
    counts: Mapping[str, int], tokenizer: PreTrainedTokenizerFast, *, first_id: int, most: int, least_saving: int
) -> list[WholeToken]:
    """A token for each character that saves `least_saving` tokens or more, those first that save most; at most `most`.

    `counts` says how often each character occurs in the text to learn from. One that takes a single token already saves
    nothing.
    """
    vocabulary = bpe_json(tokenizer)["model"]["vocab"]
    saving = {
        character: count * (len(character.encode()) - 1)
        for character, count in counts.items()
        if character not in vocabulary and character != " "
    }
    chosen = sorted(saving, key=lambda character: (-saving[character], character))[:most]
    worth = [character for character in chosen if saving[character] >= max(least_saving, 1)]
    return [_new_character(one, id_, vocabulary, counts[one]) for id_, one in enumerate(worth, first_id)]


def characters_from(tokenizer: PreTrainedTokenizerFast, first_new_id: int) -> list[WholeToken]:
    """The characters that were given the ids from `first_new_id` on, with counts of 0: a folder keeps none."""
    if not is_spm(tokenizer):
        return []
    backend = bpe_json(tokenizer)
    vocabulary: dict[str, int] = backend["model"]["vocab"]
    added = {token["content"] for token in backend["added_tokens"]}
    new = [token for token, id_ in vocabulary.items() if id_ >= first_new_id and len(token) == 1 and token not in added]
    return [_new_character(one, vocabulary[one], vocabulary, 0) for one in sorted(new, key=vocabulary.__getitem__)]


def _new_character(character: str, id_: int, vocabulary: Mapping[str, int], count: int) -> WholeToken:
    parts = tuple([vocabulary[byte_token(byte)] for byte in character.encode()])
    return WholeToken(token=id_, token_bytes=character.encode(), parts=parts, count=count)


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """How often each character occurs in documents; a space counts as one wherever it is written as "▁"."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts[" "] += counts.pop(MARK, 0)
    return counts


def saved_by_characters(counts: Mapping[str, int], characters: Sequence[WholeToken]) -> list[int]:
    """By how many tokens a text with these characters gets shorter for each new one: exact, for none joins a byte."""
    return [counts.get(one.token_bytes.decode(), 0) * (len(one.parts) - 1) for one in characters]
