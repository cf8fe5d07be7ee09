"""What happens on the page of a scored text: it is scored, coloured anew, looked into, and gone on from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

import gradio as gr

from apps.comparing.token_marks import COLOURS, LEGENDS, LikelySide, likely_of, marks_of, visible
from apps.showing.field_values import MOST_CHARACTERS, choice, text, whole
from apps.showing.look import escape
from apps.showing.refusals import says_errors
from apps.showing.studio_models import FORMATS, HIDDEN, model_of
from apps.showing.studio_parts import StudioParts
from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.evaluation.text_difference import bits_per_byte
from finetune.serving.asked_together import SideAsked, ask_together
from finetune.serving.forced_token import Forced, go_on_from
from finetune.serving.model_difference import ModelPair, ScoredText
from finetune.serving.served_model import ServedModel
from scratch_models.decoding.sampling_settings import Sampling

COMPUTES: dict[str, Any] = {**HIDDEN, "preprocess": False, "concurrency_id": "models", "concurrency_limit": 2}
"""Of an event that runs a model."""
NOTHING_YET = "<p>Nothing is scored yet: type a text, or take a model's reply to a prompt, and press Score.</p>"
MOST_FORCED = 256


@dataclass(frozen=True)
class Shown:
    """What the page shows of a text; models are named, since a page may stay open for longer than they do."""

    names: tuple[str, str]
    asked: tuple[tuple[Message, ...], str]
    scored: ScoredText


@dataclass(frozen=True)
class ScoredPage:
    """What happens on the page, with the components that it reads and writes."""

    studio: StudioParts
    form: list[gr.components.Component]
    shown: list[gr.components.Component]
    colour: gr.Radio

    @says_errors
    def score(self, *values: object) -> Iterator[list[Any]]:
        """Scores the text of the form."""
        names, asked, said = self._read(values)
        colour = choice("colour", values[5], list(COLOURS))
        if not said:
            raise InputError("text: is empty, expected what both are to score")
        yield [_waiting("Reading both models, then the text …"), gr.skip(), "", gr.skip()]
        scored = self._pair(names).score(asked[0], said, asked[1])
        yield self._drawn(Shown(names, asked, scored), colour)

    def replying(self, number: int) -> Any:
        """Puts a model's greedy reply into the form."""

        @says_errors
        def reply(*values: object) -> Iterator[list[Any]]:
            names, (messages, prompt_format), _ = self._read((*values[:4], ""))
            most = whole("most tokens", values[4], 1, MOST_FORCED)
            if not messages:
                raise InputError("prompt: is empty, expected a question to be replied to")
            side = SideAsked(
                model=model_of(self.studio, names[number], prompt_format),
                conversation=Conversation((*messages, Message("assistant", "")), "prompt"),
                reply_tokens=most,
                sampling=Sampling(temperature=0),
            )
            for (state,) in ask_together([side], Event()):
                if state.refused:
                    raise InputError(state.refused)
                yield [state.reply.text, _waiting(state.reply.waits_for or f"{state.reply.pieces} tokens …")]

        return reply

    @says_errors
    def recolour(self, colour: object, shown: Shown | None) -> list[Any]:
        """The same text in another colour, from the same scores."""
        chosen = choice("colour", colour, list(COLOURS))
        return self._drawn(shown, chosen)[:2] if shown else [gr.skip(), gr.skip()]

    @says_errors
    def pick(self, pressed: object, shown: Shown | None) -> Any:
        """What both expect in the place of a token."""
        if not shown or not isinstance(pressed, str) or not pressed.isdecimal():
            return gr.skip()
        spans = shown.scored.difference.spans
        pair, number = self._pair(shown.names), int(pressed[:6])
        if number >= len(spans):
            return gr.skip()
        base_place, tuned_place = (
            sum(len(span.base) for span in spans[:number]),
            sum(len(span.tuned) for span in spans[:number]),
        )
        return likely_of(
            spans[number],
            LikelySide("base", shown.names[0], base_place, _text_of(pair.base)),
            LikelySide("tuned", shown.names[1], tuned_place, _text_of(pair.tuned)),
        )

    @says_errors
    def force(self, pressed: object, shown: Shown | None, colour: object, most: object) -> Iterator[list[Any]]:
        """The text with a token in the place of another, gone on with."""
        parts = pressed.split() if isinstance(pressed, str) else []
        if not shown or len(parts) != 3 or not all(part.isdecimal() and len(part) < 12 for part in parts[1:]):
            yield [gr.skip()] * 5
            return
        which, place, id_ = parts
        forced = Forced(
            "base" if which == "base" else "tuned",
            whole("place", int(place), 0, MOST_CHARACTERS),
            whole("id", int(id_), 0, 2**31),
            whole("most tokens", most, 1, MOST_FORCED),
        )
        chosen = choice("colour", colour, list(COLOURS))
        yield [gr.skip(), _waiting("Going on from there …"), gr.skip(), gr.skip(), gr.skip()]
        pair, name = self._pair(shown.names), shown.names[0 if forced.which == "base" else 1]
        place_of, pool = self.studio.parts.names.place_of(name), self.studio.parts.pool
        scored = go_on_from(pool, place_of, pair, shown.scored, shown.asked, forced)
        model, ids = (pair.base, scored.base.ids) if forced.which == "base" else (pair.tuned, scored.tuned.ids)
        said = model.texts.decode(ids)
        said = said.strip() if shown.asked[0] else said  # what a plain prompt puts between them is not the text's
        yield [said, *self._drawn(Shown(shown.names, shown.asked, scored), chosen)]

    def _read(self, values: tuple[object, ...]) -> tuple[tuple[str, str], tuple[tuple[Message, ...], str], str]:
        """Both models, what is asked in which format, and the text behind it."""
        names = self.studio.parts.names.with_steps()
        chosen = choice("base", values[0], names), choice("tuned", values[1], names)
        prompt_format = choice("format", values[2], list(FORMATS))
        prompt = text("prompt", values[3] or "", MOST_CHARACTERS)
        messages = (Message("user", prompt),) if prompt.strip() else ()
        return chosen, (messages, prompt_format), text("text", values[4] or "", MOST_CHARACTERS)

    def _pair(self, names: tuple[str, str]) -> ModelPair:
        return ModelPair(*(self.studio.open(name) for name in names))

    def _drawn(self, shown: Shown, colour: str) -> list[Any]:
        pair, difference = self._pair(shown.names), shown.scored.difference
        drawn = marks_of(difference, colour, _text_of(pair.base), _text_of(pair.tuned))
        return [f"{_figures(shown, pair)}<p>{escape(LEGENDS[colour])}</p>", drawn, "", shown]


def _text_of(model: ServedModel) -> Callable[[int], str]:
    return lambda id_: visible(bytes(model.texts.of(id_)[1]))


def _waiting(words: str) -> str:
    return f'<p class="waiting" role="status">{escape(words)}</p>'


def _figures(shown: Shown, pair: ModelPair) -> str:
    """What the whole text costs both, and how they were asked."""
    scored, found, lines = shown.scored, shown.scored.difference, list[str]()
    sides = zip(shown.names, (scored.base, scored.tuned), (found.base, found.tuned), strict=True)
    for name, put, tokens in sides:
        bits = bits_per_byte(tokens)
        cost = "nothing to score" if bits is None else f"{bits:.3f} bits per byte"
        lines.append(f"<p>{escape(name)}: {cost} over {len(tokens):,} tokens, {escape(put.said)}</p>")
    if not pair.share_ids:
        lines.append("<p>Their vocabularies differ: what both cut alike is compared, without a divergence.</p>")
    elif not found.is_paired:
        lines.append("<p>The two cut the text into different tokens: what both cut alike is compared.</p>")
    return "".join(lines)
