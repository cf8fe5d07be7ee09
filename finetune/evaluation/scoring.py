"""How well a model replies: bits per byte of known replies, and what its own greedy replies are like.

A base that has a chat format, its own template or the project's, is asked in it; another one in three plain-text prompt
formats, and each figure is taken from the one that suits it best.

Bits per byte count the bytes of the reply's text alone, and the nats of the
tokens that spell it, without the end-of-turn token that only an assistant has; what a calculator gives counts on
neither side. Of a conversation with several replies the last is asked for, with all that came before it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.annotations import count_annotations
from finetune.chat.choose_format import ChatSettings, choose_format, has_own_template, knows_chat
from finetune.conversations.formats import Conversation
from finetune.evaluation.reply_checks import contains_answer, is_right, repeats_itself
from finetune.replies.asked_model import AskedModel, Costs
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat, PlainPromptFormat, PromptFormat
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.decoding.sampling_settings import Sampling

GREEDY = Sampling(temperature=0)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The figures of one model on one set of conversations."""

    bits_per_byte: float | None
    """Of the known replies; None of a model that gives no likelihoods, as on a server."""
    exact_match: float
    """Share of checkable questions whose answer the reply is."""
    answer_contained: float
    """Share of checkable questions whose answer stands in the reply as a word."""
    stop_rate: float
    """Share of replies that the model ended itself within the limit."""
    repetition_rate: float
    """Share of replies that hold four words in a row three times."""
    conversations: int
    checkable: int
    calculations: int = 0
    """Annotations of the calculator with a result, in the replies."""
    calculations_right: int = 0


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
        return self.conversation.messages[-1].content or self.conversation.messages[-1].said()

    @property
    def is_right(self) -> bool | None:
        """Whether the reply is the answer; None where that cannot be checked."""
        return None if self.conversation.answer is None else is_right(self.reply, self.conversation.answer)

    @property
    def contains_answer(self) -> bool | None:
        """Whether the answer stands in the reply as a word; None where that cannot be checked."""
        return None if self.conversation.answer is None else contains_answer(self.reply, self.conversation.answer)


@dataclass(frozen=True)
class Evaluation:
    """One model asked in one prompt format."""

    scores: Scores
    answered: list[Answered]
    costs: Costs | None
    """What the known replies cost, where the model says."""


def plain_prompt_formats(tokenizer: PreTrainedTokenizerFast, *, calculator: bool = False) -> dict[str, PromptFormat]:
    """The three plain-text prompt formats by name."""
    return {name: PlainPromptFormat(tokenizer, prompt, calculator=calculator) for name, prompt in PLAIN_PROMPTS.items()}


def base_prompt_formats(
    tokenizer: PreTrainedTokenizerFast,
    *,
    calculator: bool = False,
    generation_config: GenerationConfig | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> dict[str, PromptFormat]:
    """How a base is asked: in its own chat format where it has one, else in three plain-text formats."""
    if not knows_chat(tokenizer):
        return plain_prompt_formats(tokenizer, calculator=calculator)
    chat = choose_format(
        tokenizer, calculator=calculator, generation_config=generation_config, template_options=template_options
    )
    return {"chat": ChatPromptFormat(chat)}


def ways_to_ask(
    settings: ChatSettings, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel
) -> dict[str, PromptFormat]:
    """How the base of a run is asked: in its own way, whatever chat format the assistant learns."""
    return base_prompt_formats(
        tokenizer,
        calculator=bool(settings.calculator),
        generation_config=model.generation_config,
        template_options=settings.template_options if has_own_template(tokenizer) else None,
    )


def evaluate(
    model: PreTrainedModel, prompt_format: PromptFormat, conversations: Sequence[Conversation], max_new_tokens: int
) -> Evaluation:
    """The model's greedy replies to each conversation without its last message, and the figures."""
    return measure(LocalModel(model, prompt_format), conversations, max_new_tokens)


def measure(asked: AskedModel, conversations: Sequence[Conversation], reply_tokens: int) -> Evaluation:
    """The greedy replies of a model, wherever it is, to each conversation without its last message, and the figures."""
    return score(read_replies(asked, conversations, reply_tokens), asked.costs(conversations))


def score(answered: list[Answered], costs: Costs | None) -> Evaluation:
    """The figures of replies, and of what the known ones cost."""
    conversations = [one.conversation for one in answered]
    calculations = count_annotations(one.reply for one in answered)
    scores = Scores(
        bits_per_byte=None if costs is None else bits_per_byte(sum(costs.nats), sum(costs.text_bytes)),
        exact_match=share_of_checkable([one.is_right for one in answered]),
        answer_contained=share_of_checkable([one.contains_answer for one in answered]),
        stop_rate=sum(one.stopped for one in answered) / len(answered),
        repetition_rate=sum(repeats_itself(one.reply) for one in answered) / len(answered),
        conversations=len(conversations),
        checkable=sum(one.answer is not None for one in conversations),
        calculations=calculations.right + calculations.wrong,
        calculations_right=calculations.right,
    )
    return Evaluation(scores, answered, costs)


def best_scores(scores: Sequence[Scores]) -> Scores:
    """Each figure of the prompt format that suits the model best, taken figure by figure in the model's favour."""
    of_arithmetic = max(scores, key=lambda one: one.calculations_right)
    return Scores(
        bits_per_byte=min((one.bits_per_byte for one in scores if one.bits_per_byte is not None), default=None),
        exact_match=max(one.exact_match for one in scores),
        answer_contained=max(one.answer_contained for one in scores),
        stop_rate=max(one.stop_rate for one in scores),
        repetition_rate=min(one.repetition_rate for one in scores),
        conversations=scores[0].conversations,
        checkable=scores[0].checkable,
        calculations=of_arithmetic.calculations,
        calculations_right=of_arithmetic.calculations_right,
    )


def answer(
    model: PreTrainedModel,
    prompt_format: PromptFormat,
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
) -> list[Answered]:
    """The model's replies to each conversation without its last message."""
    return read_replies(LocalModel(model, prompt_format), conversations, max_new_tokens, sampling)


def read_replies(
    asked: AskedModel, conversations: Sequence[Conversation], reply_tokens: int, sampling: Sampling = GREEDY
) -> list[Answered]:
    """Each conversation with the reply of a model, wherever it is."""
    replies = asked.answer(conversations, reply_tokens, sampling)
    return [
        Answered(conversation, reply.text, reply.stopped)
        for conversation, reply in zip(conversations, replies, strict=True)
    ]


def share_of_checkable(found: Sequence[bool | None]) -> float:
    """Share of those that are true, of those that can be checked; 0 without any.

    >>> share_of_checkable([True, False, None]), share_of_checkable([None])
    (0.5, 0.0)
    """
    checked = [one for one in found if one is not None]
    return sum(checked) / len(checked) if checked else 0.0


SHOWN_REPLIES = 2


def choose_watched(answered: Sequence[Answered], number: int = SHOWN_REPLIES) -> list[Answered]:
    """So many questions to watch: the first that can be checked, the first that cannot, and others spread evenly."""
    kinds = [one.conversation.answer is None for one in answered]
    first = [kinds.index(kind) for kind in (False, True) if kind in kinds][:number]
    others = [place for place in range(len(answered)) if place not in first]
    return [answered[place] for place in (*sorted(first), *evenly_spaced(others, number - len(first)))]


def best_replies(base: Mapping[str, Evaluation]) -> list[Answered]:
    """The base's replies in the prompt format with the fewest bits per byte."""
    return min(base.values(), key=bits_of).answered if base else []


def bits_of(evaluation: Evaluation) -> float:
    """Bits per byte; infinitely many where the model gives no likelihoods, so that any that does comes first."""
    bits = evaluation.scores.bits_per_byte
    return math.inf if bits is None else bits
