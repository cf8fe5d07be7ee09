"""The calculator at work while replies are generated: what a model opens with ``<<48/2=`` is completed with ``24>>``.

The model's next id is looked at before it is fed back. Where it ends an expression, the ids of the result follow it as
if the model had chosen them, each in a step of its own, so rows of one batch stay together. Arithmetic without a value
(``1/0``) is completed with `NO_VALUE`: a model must not make a result up. Anything but arithmetic is left alone.
"""

import re
from collections import deque
from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.calculator import ARITHMETIC, NO_VALUE, evaluate
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.huggingface.streaming import TextStream

ASKED = re.compile(rf"<<{ARITHMETIC}=")
MAY_GO_ON = re.compile(r"(?:<<[0-9+\-*/()., ]*+|<)\Z")


class ReplyCalculator:
    """The calculator in the ids of one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._encoder = plain_text_encoder(tokenizer)

    def listen(self) -> "Listener":
        """What follows one reply, from its first id on."""
        return Listener(self)

    def encode(self, text: str) -> list[int]:
        """The ids of a piece by itself, as a conversation is rendered for training."""
        ids: list[int] = self._encoder.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids, nothing tidied up."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def own(self, ids: Sequence[int]) -> list[bool]:
        """Which ids of a reply the model chose itself; the calculator gave the others."""
        listener, own = self.listen(), []
        for id_ in ids:
            own.append(not listener.speaks)
            listener.next_id(id_)
        return own


class Listener:
    """Follows the ids of one reply, and has its own way where the calculator speaks."""

    def __init__(self, calculator: ReplyCalculator) -> None:
        self._calculator = calculator
        self._stream = TextStream(calculator.decode)
        self._tail = ""  # the end of the text, as far back as an annotation may have begun
        self._given: deque[int] = deque()

    @property
    def speaks(self) -> bool:
        """Whether the next id is the calculator's."""
        return bool(self._given)

    def next_id(self, chosen: int) -> int:
        """The next id of the reply: what the calculator still has to say, else what the model chose."""
        if self._given:
            return self._given.popleft()
        first, *rest = self._hear(chosen)
        self._given.extend(rest)
        return first

    def _hear(self, chosen: int) -> list[int]:
        """The chosen id, with the result after it where it asks for one."""
        text = self._stream.push(chosen)
        self._tail += text
        asked = ASKED.search(self._tail)
        if asked is None:
            begun = MAY_GO_ON.search(self._tail)
            self._tail = begun[0] if begun else ""
            return [chosen]
        beyond = len(self._tail) - asked.end()
        # A token may go on behind the "=", with a result of the model's own: only its text up to there is taken.
        until = [chosen] if beyond == 0 else self._calculator.encode(text[: len(text) - beyond])
        self._tail, self._stream = "", TextStream(self._calculator.decode)
        return [*until, *self._calculator.encode(f"{complete(asked['expression'])}>>")]


def complete(expression: str) -> str:
    """The value, or `NO_VALUE` where there is none.

    >>> complete("48/2"), complete("48/"), complete("9**9**9")
    ('24', 'error', 'error')
    """
    try:
        return evaluate(expression)
    except InputError:
        return NO_VALUE
