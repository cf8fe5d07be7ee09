"""SentencePiece's own rule on the vocabulary of a Hugging Face tokenizer: the readable twin of its encoder.

SentencePiece has no list of pairs. Of all neighbours it joins those whose concatenation has the highest score, the
leftmost first, and scores fall from token to token (`bpe_model.cc` of
https://github.com/google/sentencepiece/blob/v0.2.0/src/bpe_model.cc); llama.cpp does the same. Here a token's score is
the place of the first merge that makes it.
"""

import re
from collections.abc import Collection
from typing import Any

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.piece_encoding import merge_by_rank
from tokenizer_ext.bpe.split_patterns import pattern_of_any
from tokenizer_ext.bpe.written_tokens import byte_token
from tokenizer_ext.huggingface.byte_level_backend import bpe_json


class SentencePieceTwin:
    """Encodes text as SentencePiece does with the tokens of a tokenizer, its added tokens cut out first."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        backend = bpe_json(tokenizer)
        self.vocabulary: dict[str, int] = backend["model"]["vocab"]
        self.ranks: dict[str, int] = {}
        for rank, (left, right) in enumerate(backend["model"]["merges"]):
            self.ranks.setdefault(left + right, rank)
        self._ids_of_byte = [self.vocabulary[byte_token(byte)] for byte in range(256)]
        self._normalizer = tokenizer.backend_tokenizer.normalizer
        added: list[dict[str, Any]] = backend["added_tokens"]
        self._added = {self._found_as(token): token["id"] for token in added}
        self._raw = _any_of([token["content"] for token in added if not token["normalized"]])
        self._normalized = _any_of([self._found_as(token) for token in added if token["normalized"]])
        self._ids_of_word: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without those that a tokenizer puts around it."""
        ids: list[int] = []
        for part in self._raw.split(text):
            if part in self._added and self._raw.fullmatch(part):
                ids.append(self._added[part])
                continue
            for piece in self._normalized.split(self._normalize(part)):
                ids += [self._added[piece]] if self._normalized.fullmatch(piece) else self._encode_piece(piece)
        return ids

    def _encode_piece(self, piece: str) -> list[int]:
        ids: list[int] = []
        for token in merge_by_rank(piece, self.ranks):
            known = self.vocabulary.get(token)
            ids += [self._ids_of_byte[byte] for byte in token.encode()] if known is None else [known]
        return ids

    def _found_as(self, token: dict[str, Any]) -> str:
        return self._normalize(token["content"]) if token["normalized"] else str(token["content"])

    def _normalize(self, text: str) -> str:
        return self._normalizer.normalize_str(text) if self._normalizer else text


def _any_of(contents: Collection[str]) -> re.Pattern[str]:
    """What finds each of the contents, in a group, so that splitting keeps them."""
    return re.compile(f"({pattern_of_any([content for content in contents if content]).pattern})")
