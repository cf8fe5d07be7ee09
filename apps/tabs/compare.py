"""The tab that asks several models the same, turn after turn, and streams their replies side by side."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from apps.comparing import compare_dialogue, compare_layout, compare_prompts
from apps.comparing.compare_form import AskedOfAll, read_form
from apps.comparing.compare_layout import Layout
from apps.showing.look import escape
from apps.showing.refusals import says_errors
from apps.showing.stops import Stops
from apps.showing.studio_models import HIDDEN, model_of, names_with_steps, proof_of
from apps.showing.studio_parts import StudioParts
from apps.showing.transcript import figures_of, render_now, render_turns
from configs import InputError
from finetune.serving.asked_together import SideAsked, SideState, ask_together
from finetune.serving.dialogue import MOST_SIDES, Dialogue

REQUESTS_AT_ONCE = 16
ASK = {"api_name": "ask", "api_visibility": "public"}


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    layout, stops = compare_layout.lay_out(studio), Stops()
    _wire(studio, layout, stops)
    compare_dialogue.wire(studio, layout)
    compare_prompts.build(studio, layout, _asked)
    gr.context.Context.root_block.unload(stops.leave)


def _wire(studio: StudioParts, layout: Layout, stops: Stops) -> None:
    @says_errors
    def put(request: gr.Request, *values: object) -> Iterator[list[Any]]:
        asked = read_form(names_with_steps(studio), values)
        dialogue = asked.dialogue.put(asked.names, asked.prompt)
        for first, shown in _answer(studio, asked, dialogue, stops, request):
            yield [*shown, "" if first else gr.skip()]

    @says_errors
    def again(request: gr.Request, *values: object) -> Iterator[list[Any]]:
        asked = read_form(names_with_steps(studio), values, needs_prompt=False).with_seeds_moved(1)
        if not asked.dialogue.turns:
            raise InputError("dialogue: has no turn yet, expected one to ask again: type a prompt")
        dialogue = asked.dialogue.without_last().put(asked.names, asked.dialogue.turns[-1].prompt)
        seeds = [side.sampling.seed for side in asked.sides]
        moved = [seeds[0], *seeds, *[gr.skip()] * (MOST_SIDES - len(seeds))]
        for _, shown in _answer(studio, asked, dialogue, stops, request):
            yield [*shown, *moved]

    shown = [*layout.shown, layout.kept]
    _wire_asking(layout, stops, [layout.ask.click, layout.prompt.submit], put, [*shown, layout.prompt], **ASK)
    seeds = [layout.seed, *(side.seed for side in layout.sides)]
    _wire_asking(layout, stops, [layout.again.click], again, [*shown, *seeds])
    layout.stop.click(stops.stop, queue=False, **HIDDEN)


def _wire_asking(
    layout: Layout, stops: Stops, triggers: list[Any], answer: Callable[..., Any], outputs: list[Any], **public: Any
) -> None:
    """Asks on a trigger; meanwhile only Stop can be pressed. What is `public` Gradio's own client can call too."""

    def begin(request: gr.Request) -> list[Any]:
        stops.begin(request)
        return [gr.update(interactive=False), gr.update(interactive=False), gr.update(interactive=True)]

    def end() -> list[Any]:
        return [gr.update(interactive=True), gr.update(interactive=True), gr.update(interactive=False)]

    buttons = [layout.ask, layout.again, layout.stop]
    begun = gr.on(triggers, begin, None, buttons, queue=False, **HIDDEN)
    replies = begun.then(
        answer,
        layout.form,
        outputs,
        preprocess=False,
        postprocess=False,  # all of it is text already, and each value would be looked at in a thread of its own
        concurrency_limit=REQUESTS_AT_ONCE,
        concurrency_id="replies",
        **HIDDEN | public,
    )
    for ended in (replies.then, replies.failure):  # after an error, such as a full queue, only the second is run
        ended(end, None, buttons, queue=False, **HIDDEN)


def _answer(
    studio: StudioParts, asked: AskedOfAll, dialogue: Dialogue, stops: Stops, request: gr.Request
) -> Iterator[tuple[bool, list[Any]]]:
    """What the panes and the kept dialogue show, again and again until all have replied, the first time marked."""
    sides = _asked(studio, asked, dialogue)
    prompt, stop = dialogue.turns[-1].prompt, stops.current(request)
    past = [render_turns(dialogue.turns[:-1], side) for side in range(len(sides))]
    states: tuple[SideState, ...] = tuple(SideState() for _ in sides)
    yield True, [*_panes(past, _render(prompt, states), [""] * len(sides)), gr.skip()]
    unchanged = [gr.skip()] * len(sides)
    for states in ask_together(sides, stop):
        yield False, [*_panes(unchanged, _render(prompt, states), unchanged), gr.skip()]
    notes = [state.refused or figures_of(state.reply) for state in states]
    whole = dialogue.answered([state.reply.text for state in states], notes)
    proofs = [escape(proof_of(studio, name)) for name in asked.names]
    yield False, [*_panes(unchanged, _render(prompt, states), proofs), whole.to_json()]


def _asked(studio: StudioParts, asked: AskedOfAll, dialogue: Dialogue) -> list[SideAsked]:
    return [
        SideAsked(
            model=model_of(studio, side.model, side.prompt_format),
            conversation=dialogue.conversation(number, asked.system),
            reply_tokens=asked.reply_tokens,
            sampling=side.sampling,
        )
        for number, side in enumerate(asked.sides)
    ]


def _render(prompt: str, states: Sequence[SideState]) -> list[str]:
    return [render_now(prompt, state) for state in states]


def _panes(past: Sequence[Any], now: Sequence[Any], proofs: Sequence[Any]) -> list[Any]:
    """For each of four sides what was said before, what is said now, and what exactly says it."""
    shown = [one for side in zip(past, now, proofs, strict=True) for one in side]
    return [*shown, *[gr.skip()] * (3 * MOST_SIDES - len(shown))]
