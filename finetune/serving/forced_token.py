"""A text with another token in one place, from which one of two models goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from configs import InputError
from finetune.conversations.messages import Message
from finetune.serving.model_difference import ModelPair, ScoredText
from finetune.serving.model_pool import ModelPool
from finetune.serving.put_texts import PutText, put_text
from finetune.serving.reply_request import Piece, ReplyRequest
from scratch_models.decoding.sampling_settings import Sampling

Which = Literal["base", "tuned"]


@dataclass(frozen=True)
class Forced:
    """A token put in the place of another, from which one model goes on."""

    which: Which
    """Whose tokens are counted, and who goes on."""
    place: int
    """Of the token that is replaced."""
    id: int
    most_tokens: int


def go_on_from(
    pool: ModelPool,
    name: str,
    pair: ModelPair,
    scored: ScoredText,
    asked: tuple[Sequence[Message], str],
    forced: Forced,
) -> ScoredText:
    """The text with another token in one place, gone on with greedily by one model, as both score it.

    Args:
        pool: Where the model answers.
        name: What the pool calls the model that goes on.
        pair: Both models.
        scored: The text as it was.
        asked: The messages before the text, and the prompt format in which they were put.
        forced: The token.

    Raises:
        InputError: there is no such place or id, or no room behind it.
        Full: the pool has no room.

    """
    model, other = (pair.base, pair.tuned) if forced.which == "base" else (pair.tuned, pair.base)
    mine, theirs = (scored.base, scored.tuned) if forced.which == "base" else (scored.tuned, scored.base)
    if not 0 <= forced.place < len(mine.ids):
        raise InputError(f"place: found {forced.place}, expected one of the {len(mine.ids)} tokens of the text")
    ids, given = _go_on(pool, name, mine, forced)
    new = replace(mine, ids=ids, given=given)
    if pair.share_ids and theirs.ids == mine.ids:
        rest = replace(theirs, ids=ids, given=given)
    else:
        messages, prompt_format = asked
        rest = put_text(other, messages, model.texts.decode(ids).strip(), prompt_format)
    return pair.score_ids(*((new, rest) if forced.which == "base" else (rest, new)))


def _go_on(pool: ModelPool, name: str, put: PutText, forced: Forced) -> tuple[tuple[int, ...], frozenset[int]]:
    """The ids of the new text, and the places of those that the model did not choose."""
    begun = (*put.ids[: forced.place], forced.id)
    given, ids = {place for place in put.given if place < forced.place}, [*begun]
    if forced.id in put.stop_ids:
        return begun, frozenset(given)
    request = ReplyRequest(
        prompt_ids=(*put.prompt_ids, *begun),
        most_tokens=forced.most_tokens,
        sampling=Sampling(temperature=0),
        stop_ids=put.stop_ids,
        logprobs=0,
        calculator=put.calculator,
    )
    stream = pool.ask(name, request)
    try:
        for event in stream:
            for token in event.tokens if isinstance(event, Piece) else ():
                if not token.is_own:
                    given.add(len(ids))
                ids.append(token.id)
    finally:
        stream.close()
    return tuple(ids), frozenset(given)
