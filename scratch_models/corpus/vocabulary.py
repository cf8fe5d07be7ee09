"""The vocabularies of a scratch model: an id for each character or for each byte, or a tokenizer of Hugging Face."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from transformers import PreTrainedTokenizerBase

from configs import InputError
from configs.whole_folder import write_whole
from scratch_models.corpus.text_files import read_text


class CharacterVocabulary:
    """One id per character.

    >>> vocabulary = CharacterVocabulary.from_text("hello")
    >>> vocabulary.encode("hole"), vocabulary.decode([1, 0, 2])
    ([1, 3, 2, 0], 'hel')
    """

    def __init__(self, characters: Sequence[str]) -> None:
        if (
            not characters
            or len(set(characters)) != len(characters)
            or any(len(character) != 1 for character in characters)
        ):
            raise InputError("a character vocabulary needs distinct single characters, at least one")
        self.characters = tuple(characters)
        self._ids = {character: id_ for id_, character in enumerate(characters)}

    @classmethod
    def from_text(cls, text: str) -> "CharacterVocabulary":
        """The distinct characters of a text in the order of their code points."""
        return cls(sorted(set(text)))

    @classmethod
    def load(cls, path: str | Path) -> "CharacterVocabulary":
        """The vocabulary that `save` wrote."""
        text = read_text(path)
        try:
            return cls(json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: {error}, expected a JSON list of distinct characters") from None

    def save(self, path: str | Path) -> None:
        """Writes the characters as a JSON list, the id of each being its place."""
        write_whole(path, json.dumps(self.characters, ensure_ascii=False) + "\n")

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def vocabulary_size(self) -> int:
        """How many characters there are."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; characters outside the vocabulary are an InputError that names them."""
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            raise self._refusal(text) from None

    def encode_array(self, text: str) -> np.ndarray:
        """The same ids as an array, made without a Python object for each."""
        code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = self._table[np.minimum(code_points, len(self._table) - 1)]
        if len(ids) and ids.min() < 0:
            raise self._refusal(text)
        return ids

    @cached_property
    def _table(self) -> np.ndarray:
        """The id of each code point up to one more than the largest that has one; -1 for what has none."""
        code_points = np.array([ord(character) for character in self.characters])
        table = np.full(code_points.max() + 2, -1, dtype=np.int32)
        table[code_points] = np.arange(len(code_points))
        return table

    def _refusal(self, text: str) -> InputError:
        unknown = [character for character in dict.fromkeys(text) if character not in self._ids]
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        return InputError(
            f"text: holds {', '.join(map(repr, unknown[:10]))}{more}, first at character {text.index(unknown[0])}, "
            f"expected only the {len(self)} characters that the model was trained on: leave the others out"
        )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return "".join(self.characters[id_] for id_ in ids)


class ByteVocabulary:
    """One id per byte of UTF-8, the byte itself: no text lies outside it.

    >>> vocabulary = ByteVocabulary()
    >>> vocabulary.encode("é!"), vocabulary.decode([195, 169, 33, 195])
    ([195, 169, 33], 'é!�')
    """

    def __len__(self) -> int:
        return 256

    @property
    def vocabulary_size(self) -> int:
        """How many bytes there are."""
        return len(self)

    def encode(self, text: str) -> list[int]:
        """The bytes of a text."""
        return list(text.encode())

    def encode_array(self, text: str) -> np.ndarray:
        """The same as an array."""
        return np.frombuffer(text.encode(), np.uint8)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of bytes, with U+FFFD for those that are not UTF-8."""
        return bytes(ids).decode(errors="replace")


Tokens: TypeAlias = Literal["characters", "bytes", "bpe"]
Vocabulary: TypeAlias = CharacterVocabulary | ByteVocabulary | PreTrainedTokenizerBase
