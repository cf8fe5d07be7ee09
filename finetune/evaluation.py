"""How well a model replies: bits per byte of known replies, and what its own greedy replies are like.

A base model knows no chat format, so it is asked in three plain-text ways and each figure is taken from the way that suits it
best. Bits per byte count the bytes of the reply's text alone, and the nats of the tokens that spell it, without the
end-of-turn token that only an assistant has.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.batches import Row, cut_by_tokens, pad
from finetune.chat import ChatFormat
from finetune.conversations import Conversation, Message, final_answer
from finetune.plain_prompts import PLAIN_PROMPTS, PlainPrompt
from finetune.replies import generate_ids
from finetune.supervised_loss import SupervisedLoss
from scratch_models.corpus import IGNORED_TARGET, bits_per_byte
from scratch_models.sampling import Sampling
from tokenizer_ext.hf_tokenizer import plain_text_encoder

TOKENS_PER_MICRO_BATCH = 8192
GREEDY = Sampling(temperature=0)
REPEATED_WORDS, REPEATED_TIMES = 4, 3


class Way(Protocol):
    """One way to put a conversation to a model."""

    stop_ids: tuple[int, ...]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids after which the model replies."""

    def reply_ids(self, reply: str) -> list[int]:
        """The ids of a known reply after the prompt, without an end."""

    def text(self, ids: Sequence[int]) -> str:
        """The reply that generated ids spell."""


class ChatWay:
    """The assistant's own format."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.chat = ChatFormat(tokenizer)
        self.stop_ids: tuple[int, ...] = (self.chat.end_id,)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The conversation so far in control tokens."""
        return self.chat.render_prompt(messages)

    def reply_ids(self, reply: str) -> list[int]:
        """The content of a turn."""
        return self.chat.render_prompt([Message("assistant", reply)])[1:-2]

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the end of the turn."""
        return self.chat.decode_reply(list(ids)).strip()


class PlainWay:
    """Plain text, for a model that knows no format; it stops by itself only with an end of text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt: PlainPrompt) -> None:
        self.tokenizer, self.prompt = tokenizer, prompt
        self.encoder = plain_text_encoder(tokenizer)
        self.stop_ids: tuple[int, ...] = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt as text."""
        ids: list[int] = self.encoder.encode(self.prompt.text(messages), add_special_tokens=False).ids
        return ids

    def reply_ids(self, reply: str) -> list[int]:
        """The reply as it would follow the prompt."""
        ids: list[int] = self.encoder.encode(self.prompt.continuation(reply), add_special_tokens=False).ids
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the next turn."""
        return self.prompt.cut(str(self.tokenizer.decode(list(ids))))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The figures of one model on one set of conversations."""

    bits_per_byte: float
    """Of the known replies."""
    exact_match: float
    """Share of checkable questions whose answer the reply is."""
    stop_rate: float
    """Share of replies that the model ended itself within the limit."""
    repetition_rate: float
    """Share of replies that hold four words in a row three times."""
    conversations: int
    checkable: int


@dataclass(frozen=True)
class Answered:
    """A question with a model's reply."""

    conversation: Conversation
    reply: str
    stopped: bool


@dataclass(frozen=True)
class Interview:
    """One model asked in one way."""

    scores: Scores
    answered: list[Answered]


def ask_plainly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
) -> dict[str, Interview]:
    """A base model asked in each of the three plain-text ways."""
    ways = {name: PlainWay(tokenizer, prompt) for name, prompt in PLAIN_PROMPTS.items()}
    return {name: interview(model, way, conversations, max_new_tokens) for name, way in ways.items()}


def interview(
    model: PreTrainedModel, way: Way, conversations: Sequence[Conversation], max_new_tokens: int
) -> Interview:
    """The model's greedy replies to each conversation without its last message, and the figures."""
    answered = answer(model, way, conversations, max_new_tokens)
    scores = Scores(
        bits_per_byte=reply_bits_per_byte(model, way, conversations),
        exact_match=exact_match_rate(answered),
        stop_rate=sum(one.stopped for one in answered) / len(answered),
        repetition_rate=sum(repeats_itself(one.reply) for one in answered) / len(answered),
        conversations=len(conversations),
        checkable=sum(one.answer is not None for one in conversations),
    )
    return Interview(scores, answered)


def best_scores(scores: Sequence[Scores]) -> Scores:
    """Each figure of the way that suits the model best, taken figure by figure in the model's favour."""
    return Scores(
        bits_per_byte=min(one.bits_per_byte for one in scores),
        exact_match=max(one.exact_match for one in scores),
        stop_rate=max(one.stop_rate for one in scores),
        repetition_rate=min(one.repetition_rate for one in scores),
        conversations=scores[0].conversations,
        checkable=scores[0].checkable,
    )


def answer(
    model: PreTrainedModel,
    way: Way,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
) -> list[Answered]:
    """The model's replies to each conversation without its last message."""
    prompts = [way.prompt_ids(conversation.messages[:-1]) for conversation in conversations]
    replies = generate_ids(model, prompts, max_new_tokens=max_new_tokens, stop_ids=way.stop_ids, sampling=sampling)
    return [
        Answered(conversation, way.text(reply.ids), reply.stopped)
        for conversation, reply in zip(conversations, replies, strict=True)
    ]


@torch.no_grad()
def reply_bits_per_byte(model: PreTrainedModel, way: Way, conversations: Sequence[Conversation]) -> float:
    """Bits that the model needs per byte of the conversations' last messages."""
    loss_model = SupervisedLoss(model).eval()
    device = next(model.parameters()).device
    rows = sorted((_scored_row(way, conversation) for conversation in conversations), key=lambda row: len(row[0]))
    nats = 0.0
    for group in cut_by_tokens(rows, TOKENS_PER_MICRO_BATCH):
        nats += float(loss_model(**{name: tensor.to(device) for name, tensor in pad(group).items()}))
    text_bytes = sum(len(conversation.messages[-1].content.encode()) for conversation in conversations)
    return bits_per_byte(nats, text_bytes)


def exact_match_rate(answered: Sequence[Answered]) -> float:
    """Share of the checkable questions whose reply is the answer, or ends with it after `####`; 0 where there is none."""
    checkable = [one for one in answered if one.conversation.answer is not None]
    right = sum(is_right(one.reply, one.conversation.answer or "") for one in checkable)
    return right / len(checkable) if checkable else 0.0


def is_right(reply: str, expected: str) -> bool:
    """Whether a reply is the expected answer, quotes and a full stop around it aside.

    >>> is_right("`None`.", "None"), is_right("48/2=24 so #### 24", "24"), is_right("Not None", "None")
    (True, True, False)
    """
    found = final_answer(reply) or reply
    return _bare(found) == _bare(expected)


def repeats_itself(text: str) -> bool:
    """Whether four words in a row stand three times in a text.

    >>> repeats_itself("the sum of the " * 3), repeats_itself("the sum of all elements")
    (True, False)
    """
    words = text.split()
    runs = Counter(tuple(words[start : start + REPEATED_WORDS]) for start in range(len(words) - REPEATED_WORDS + 1))
    return max(runs.values(), default=0) >= REPEATED_TIMES


def fits(model: PreTrainedModel, way: Way, conversation: Conversation) -> bool:
    """Whether prompt, known reply and one more token fit the model's positions."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    ids, _ = _scored_row(way, conversation)
    return positions is None or len(ids) + 2 <= positions


def _scored_row(way: Way, conversation: Conversation) -> Row:
    prompt = way.prompt_ids(conversation.messages[:-1])
    reply = way.reply_ids(conversation.messages[-1].content)
    targets = [IGNORED_TARGET] * (len(prompt) - 1) + reply
    return [*prompt, *reply][:-1], targets


def _bare(text: str) -> str:
    return text.strip().strip("`'\"").rstrip(".").strip("`'\"")
