"""Which questions a model is asked: those that fit it, as many as there is time for, and later models the same ones.

The questions are asked in batches that are each spread over all of them. After a batch the next one is asked where it
still fits. So the number alone depends on the time: which questions so many are does not.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from transformers import PreTrainedModel

from configs import InputError
from configs.one_line_ending import is_main_process
from finetune.conversations.formats import Conversation
from finetune.decoding.decoders import is_spread
from finetune.evaluation.scoring import Answered, Evaluation, answer, evaluate, score
from finetune.replies.asked_model import AskedModel, Costs
from finetune.replies.likelihood import reply_costs
from finetune.replies.prompts import PromptFormat
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.sharded.in_step import common_clock
from tokenizer_ext.pages.progress import progress

T = TypeVar("T")

FEWEST_QUESTIONS = 20
"""As many are asked however long they take, and so many more at a time."""


def choose_askable(
    conversations: Sequence[Conversation], number: int, models: Sequence[AskedModel]
) -> list[Conversation]:
    """Of `number` conversations, spread evenly over all, those that every model can be asked.

    Raises:
        InputError: there is none.

    """
    chosen = evenly_spaced(conversations, number)
    askable = [one for one in chosen if all(model.fits(one) for model in models)]
    if not askable:
        raise InputError(
            f"none of {len(chosen)} conversations has a question that fits the models' positions with its reply, "
            "expected at least one: give shorter ones"
        )
    return askable


def spread_order(number: int) -> list[int]:
    """So many places in an order of which every beginning lies spread over all: by their bits, the lowest first.

    >>> spread_order(8), spread_order(5)
    ([0, 4, 2, 6, 1, 5, 3, 7], [0, 4, 2, 1, 3])
    """
    bits = max(number - 1, 0).bit_length()
    return sorted(range(number), key=lambda place: int(f"{place:0{bits}b}"[::-1], 2) if bits else 0)


def spread(items: Sequence[T], number: int) -> list[T]:
    """So many of the items, in their order, which are among those of any larger number."""
    return [items[place] for place in sorted(spread_order(len(items))[:number])]


def ask_base_questions(
    model: PreTrainedModel,
    ways: Mapping[str, PromptFormat],
    askable: Sequence[Conversation],
    max_new_tokens: int,
    *,
    number_given: bool,
    minutes: float,
    recorded: int | None = None,
) -> dict[str, Evaluation]:
    """The base asked in every way: all that can be asked where their number was given, else what there is time for.

    `recorded` is how many a run that goes on asked before. Of a model that is spread over processes all must call it.
    """
    if number_given or recorded is not None:
        chosen = askable if recorded is None else spread(askable, recorded)
        return ask_all(model, ways, chosen, max_new_tokens)
    clock = common_clock if is_spread(model) else time.monotonic
    found = ask_in_time(model, ways, askable, max_new_tokens, seconds=60 * minutes, clock=clock)
    if is_main_process():
        print(describe_number(len(asked_questions(found)), len(askable), minutes))
    return found


def ask_in_time(
    model: PreTrainedModel,
    ways: Mapping[str, PromptFormat],
    conversations: Sequence[Conversation],
    max_new_tokens: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Evaluation]:
    """The model asked in every way as many of the conversations as fit into so many seconds, all ways the same ones."""
    order, started, longest, asked = spread_order(len(conversations)), clock(), 0.0, 0
    found: dict[str, dict[int, tuple[Answered, float, int]]] = {name: {} for name in ways}
    while asked < len(order) and (not asked or clock() - started + longest <= seconds):
        places, begun = order[asked : asked + FEWEST_QUESTIONS], clock()
        batch = [conversations[place] for place in places]
        for name, way in ways.items():
            with progress(f"{name}, {asked} of {len(order)} questions asked"):
                parts = answer(model, way, batch, max_new_tokens), *reply_costs(model, way, batch)
            found[name] |= dict(zip(places, zip(*parts, strict=True), strict=True))
        asked, longest = asked + len(places), max(longest, clock() - begun)
    return {name: _score(by_place) for name, by_place in found.items()}


def _score(by_place: Mapping[int, tuple[Answered, float, int]]) -> Evaluation:
    """The figures of the questions, in their order, with the nats and bytes of their known replies."""
    in_order = [by_place[place] for place in sorted(by_place)]
    costs = Costs(nats=[nats for _, nats, _ in in_order], text_bytes=[text_bytes for _, _, text_bytes in in_order])
    return score([answered for answered, _, _ in in_order], costs)


def ask_all(
    model: PreTrainedModel, ways: Mapping[str, PromptFormat], conversations: Sequence[Conversation], max_new_tokens: int
) -> dict[str, Evaluation]:
    """The model asked all of the conversations in every way."""
    found = {}
    for name, way in ways.items():
        with progress(name):
            found[name] = evaluate(model, way, conversations, max_new_tokens)
    return found


def asked_questions(asked: Mapping[str, Evaluation]) -> list[Conversation]:
    """What a model was asked, in every way alike."""
    return [one.conversation for one in next(iter(asked.values())).answered]


def describe_number(asked: int, askable: int, minutes: float) -> str:
    """Why so many were asked, in one line."""
    if asked == askable:
        return f"Asked all {asked} questions"
    return (
        f"Asked {asked} of {askable} questions, spread evenly: more would take over {minutes:g} minutes "
        "(--evaluation_minutes; the same ones are asked again after training)"
    )
