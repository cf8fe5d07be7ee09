"""The text of every token of a vocabulary, and words that are one token of it."""

from collections.abc import Mapping
from contextlib import suppress

from tokenizers import decoders

from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from tokenizer_ext.bpe.byte_characters import from_visible

SENTENCEPIECE_SPACE = "\u2581"


def token_texts(vocabulary: Vocabulary) -> dict[int, str]:
    """The text of each id, with escapes for bytes that are no text.

    >>> token_texts(CharacterVocabulary("ab"))
    {0: 'a', 1: 'b'}
    """
    if isinstance(vocabulary, CharacterVocabulary):
        return dict(enumerate(vocabulary.characters))
    if isinstance(vocabulary, ByteVocabulary):
        return {byte: bytes([byte]).decode(errors="backslashreplace") for byte in range(len(vocabulary))}
    texts = {id_: token.replace(SENTENCEPIECE_SPACE, " ") for token, id_ in vocabulary.get_vocab().items()}
    if isinstance(vocabulary.backend_tokenizer.decoder, decoders.ByteLevel):
        for token, id_ in vocabulary.get_vocab().items():
            with suppress(KeyError):  # an added token stands there as it is
                texts[id_] = from_visible(token).decode(errors="backslashreplace")
    return texts


def ids_of_words(texts: Mapping[int, str]) -> dict[str, int]:
    """The id of each text that is one token; that of a word after a space goes by the word alone.

    >>> ids_of_words({0: "king", 1: " king", 2: "a"})
    {'king': 1, ' king': 1, 'a': 2}
    """
    ids = {text: id_ for id_, text in texts.items()}
    after_space = {text[1:]: id_ for text, id_ in ids.items() if text.startswith(" ") and len(text) > 1}
    return ids | after_space
