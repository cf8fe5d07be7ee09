"""How well a model replies: bits per byte of known replies, and what its own greedy replies are like.

A base model knows no chat format, so it is asked in three plain-text ways and each figure is taken from the way that
suits it best. Bits per byte count the bytes of the reply's text alone, and the nats of the tokens that spell it,
without the end-of-turn token that only an assistant has. Of a conversation with several replies the last is asked for,
with all that came before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.batches import Row, cut_by_tokens, pad
from finetune.conversation_sets import spread
from finetune.conversations import Conversation
from finetune.plain_prompts import PLAIN_PROMPTS
from finetune.replies import generate_ids
from finetune.reply_checks import is_right, repeats_itself
from finetune.supervised_loss import SupervisedLoss
from finetune.ways import ChatWay, PlainWay, Way, fits
from scratch_models.corpus import IGNORED_TARGET, bits_per_byte
from scratch_models.sampling import Sampling

TOKENS_PER_MICRO_BATCH = 8192
GREEDY = Sampling(temperature=0)


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
    """Whether the model ended it itself."""

    @property
    def question(self) -> str:
        """What was said last before the reply."""
        return self.conversation.messages[-2].content

    @property
    def expected(self) -> str:
        """The known reply."""
        return self.conversation.messages[-1].content


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
    ways = plain_ways(tokenizer)
    return {name: interview(model, way, conversations, max_new_tokens) for name, way in ways.items()}


def ask_in_chat(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
) -> Interview:
    """An assistant asked in its chat format."""
    return interview(model, ChatWay(tokenizer), conversations, max_new_tokens)


def plain_ways(tokenizer: PreTrainedTokenizerFast) -> dict[str, Way]:
    """The three plain-text ways by name."""
    return {name: PlainWay(tokenizer, prompt) for name, prompt in PLAIN_PROMPTS.items()}


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
    """Share of the checkable questions whose reply is the answer, as `is_right` sees it; 0 without any."""
    checkable = [one for one in answered if one.conversation.answer is not None]
    right = sum(is_right(one.reply, one.conversation.answer or "") for one in checkable)
    return right / len(checkable) if checkable else 0.0


def choose_askable(
    conversations: Sequence[Conversation], number: int, ways: Sequence[tuple[PreTrainedModel, Way]]
) -> list[Conversation]:
    """Of `number` conversations, spread evenly over all, those that can be asked in every way.

    Raises:
        InputError: there is none.

    """
    chosen = spread(conversations, number)
    askable = [one for one in chosen if all(fits(model, way, one) for model, way in ways)]
    if not askable:
        raise InputError(
            f"none of {len(chosen)} conversations has a question that fits the models' positions with its reply, "
            "expected at least one: give shorter ones"
        )
    return askable


def _scored_row(way: Way, conversation: Conversation) -> Row:
    """Ids and targets that score the last message alone."""
    prompt = way.prompt_ids(conversation.messages[:-1])
    reply = way.reply_ids(conversation.messages[-1].content)
    targets = [IGNORED_TARGET] * (len(prompt) - 1) + reply
    return [*prompt, *reply][:-1], targets
