"""Whether a question is nearly one that is held out, asked of any number of questions one after another.

Near are two questions whose sets of word trigrams have a Jaccard similarity of 0.7, as in `near_duplicates`. What many
questions say alike ("Classify the sentiment of this review") is boilerplate: it makes no two of them near, so such
trigrams count on neither side.

Exact, up to equal hashes of 64 bits, by prefix filtering (Chaudhuri et al. 2006, "A Primitive Operator for Similarity
Joins in Data Cleaning"): who is near a question has 70 % of its trigrams, so at least one of any 31 %. Of each question
only the rarest so many are indexed, and who has one of them is compared in full.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetune.conversations.messages import Message
from scratch_models.documents.near_duplicates import SIMILARITY, WORDS_PER_SHINGLE, shingles, words_of

BOILERPLATE_SHARE = 0.02
"""A trigram in more of the held-out questions is boilerplate ..."""
SAMPLE_SHARE = 0.2
"""... and so is one in more of the sample ..."""
BOILERPLATE_QUESTIONS = 3
"""... if so many questions have it at least."""

Hashes: TypeAlias = NDArray[np.int64]
"""Of the trigrams of a question, each once."""


class NearQuestions:
    """An index of the questions that are held out.

    A question of less than three words, or of boilerplate alone, is only near one of the same words.

    >>> held_out = NearQuestions(["How many eggs does a hen of Tom lay in the seven days of a week?"])
    >>> held_out.is_near("How many eggs does a hen of Tom lay in the seven days of a month?")
    True
    >>> held_out.is_near("How many eggs does Tom eat?")
    False
    """

    def __init__(self, texts: Iterable[str], sample: Iterable[str] = ()) -> None:
        """`texts` are held out; a `sample` of the others shows what is boilerplate where few are held out."""
        held_out = _distinct(texts)
        self._equal = set(held_out)
        found, questions = _count_questions(list(held_out.values()))
        common = _in_many(found, questions, BOILERPLATE_SHARE * len(held_out))
        others = list(_distinct(sample).values())
        common |= _in_many(*_count_questions(others), SAMPLE_SHARE * len(others))
        self._boilerplate = common
        self._compared: list[Hashes] = []
        for own in held_out.values():
            rarest_first = own[np.argsort(questions[np.searchsorted(found, own)], kind="stable")]
            kept = [one for one in rarest_first.tolist() if one not in common]
            self._compared.append(np.array(kept, dtype=np.int64))
        # The number of the question that a trigram is indexed for, in a tuple only where there are several: memory.
        self._indexed: dict[int, int | tuple[int, ...]] = {}
        for number, own in enumerate(self._compared):
            for one in own[: len(own) - int(SIMILARITY * len(own)) + 1].tolist():
                known = self._indexed.setdefault(one, number)
                if known != number:
                    self._indexed[one] = (*_several(known), number)

    def is_near(self, text: str) -> bool:
        """Whether a text is near one of the questions."""
        words = words_of(text)
        if _key(words, text) in self._equal:
            return True
        own = _trigrams(words)
        found = {number for one in own if one in self._indexed for number in _several(self._indexed[one])}
        if not found:
            return False
        own -= self._boilerplate
        return any(self._are_near(own, number) for number in found)

    def _are_near(self, own: set[int], number: int) -> bool:
        question = self._compared[number]
        if min(len(own), len(question)) < SIMILARITY * max(len(own), len(question)):
            return False
        shared = len(own.intersection(question.tolist()))
        return shared / (len(own) + len(question) - shared) >= SIMILARITY


def _several(numbers: int | tuple[int, ...]) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else numbers


def asked_text(messages: Iterable[Message]) -> str:
    """What is asked, as one text to compare; what a system message says makes it no other question.

    >>> asked_text((Message("system", "Be brief."), Message("user", "1+1?"), Message("user", "Well?")))
    '1+1? Well?'
    """
    return " ".join(message.content for message in messages if message.role != "system")


def _distinct(texts: Iterable[str]) -> dict[int, Hashes]:
    """The trigrams of each question that is not equal to one before it, by what equal ones share."""
    found: dict[int, Hashes] = {}
    for text in texts:
        words = words_of(text)
        key = _key(words, text)
        if key not in found:
            found[key] = np.array(list(_trigrams(words)), dtype=np.int64)
    return found


def _key(words: Sequence[str], text: str) -> int:
    """What equal questions share: their words, or where there are none, as between smileys, all that they hold."""
    return hash(tuple(words or text.split()))


def _trigrams(words: Sequence[str]) -> set[int]:
    """The hashes of a question's trigrams; one of fewer words has none."""
    return set(map(hash, shingles(words))) if len(words) >= WORDS_PER_SHINGLE else set()


def _count_questions(questions: Sequence[Hashes]) -> tuple[Hashes, Hashes]:
    """All trigrams, ascending, and how many of the questions have each."""
    found, counts = np.unique(_join(questions), return_counts=True)
    return found, counts


def _join(questions: Sequence[Hashes]) -> Hashes:
    return np.concatenate([np.zeros(0, dtype=np.int64), *questions])


def _in_many(trigrams: Hashes, questions: Hashes, more_than: float) -> set[int]:
    """The trigrams that so many questions have that they are boilerplate."""
    return set(trigrams[(questions > more_than) & (questions >= BOILERPLATE_QUESTIONS)].tolist())
