"""Many prompts at once in the Compare tab: asked with nobody watching, counted, shown in a table, saved."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from apps.comparing.compare_dialogue import SAVES
from apps.comparing.compare_form import AskedOfAll, read_form
from apps.comparing.compare_layout import Layout
from apps.showing.field_values import text
from apps.showing.opened_files import add_opener
from apps.showing.refusals import says_errors
from apps.showing.stops import Stops
from apps.showing.studio_models import HIDDEN, names_with_steps
from apps.showing.studio_parts import StudioParts
from apps.showing.tables import table_as_html
from finetune.serving.asked_together import SideAsked
from finetune.serving.dialogue import Dialogue
from finetune.studio.many_prompts import AnsweredPrompt, answer_all, read_prompts, slices, to_jsonl

MOST_TEXT = 400_000
MOST_WORD = 200
SHOWN_ROWS = 100
Asks = Callable[[StudioParts, AskedOfAll, Dialogue], list[SideAsked]]


def build(studio: StudioParts, layout: Layout, asks: Asks) -> None:
    """Lays it out under the dialogue; the sides and how they are sampled are those of the tab."""
    stops = Stops()
    with gr.Accordion("Many prompts", open=False, elem_id="many"):
        given = _given()
        with gr.Row():
            start = gr.Button("Answer all", variant="primary", elem_id="many-start")
            stop = gr.Button("Stop", interactive=False, elem_id="many-stop")
            save = gr.Button("Save as JSONL", elem_id="many-save")
        shown, lines = gr.HTML(elem_id="many-shown"), gr.State("")

    @says_errors
    def answer(request: gr.Request, *values: object) -> Iterator[list[Any]]:
        yield from _answer(studio, asks, stops, request, values)

    def begin(request: gr.Request) -> list[Any]:
        stops.begin(request)
        return [gr.update(interactive=False), gr.update(interactive=True)]

    def end() -> list[Any]:
        return [gr.update(interactive=True), gr.update(interactive=False)]

    begun = start.click(begin, None, [start, stop], queue=False, **HIDDEN)
    running: dict[str, Any] = {**HIDDEN, "preprocess": False, "concurrency_limit": 2, "concurrency_id": "many"}
    replies = begun.then(answer, [*layout.form, *given], [shown, lines], **running)
    for ended in (replies.then, replies.failure):
        ended(end, None, [start, stop], queue=False, **HIDDEN)
    stop.click(stops.stop, queue=False, **HIDDEN)
    gr.context.Context.root_block.unload(stops.leave)
    name, content = gr.Textbox(visible=False), gr.Textbox(visible=False)
    saved = save.click(lambda found: ("replies.jsonl", found), lines, [name, content], queue=False, **HIDDEN)
    saved.success(None, [name, content], None, js=SAVES, queue=False, **HIDDEN)


def _given() -> list[gr.Textbox]:
    """The prompts, and what is counted in the replies."""
    prompts = gr.Textbox(
        label="Prompts",
        lines=4,
        max_lines=12,
        placeholder='One a line, or lines of JSON: {"question": "1+1?", "answer": "2"}',
        elem_id="many-prompts",
    )
    add_opener(prompts, MOST_TEXT)
    with gr.Row():
        contains = gr.Textbox("", label="Count replies that contain", max_lines=1, elem_id="many-contains")
        starts = gr.Textbox("", label="Count replies that start with", max_lines=1, elem_id="many-starts")
    return [prompts, contains, starts]


def _answer(
    studio: StudioParts, asks: Asks, stops: Stops, request: gr.Request, values: Sequence[object]
) -> Iterator[list[Any]]:
    *form, given, contains, starts = values
    asked = read_form(names_with_steps(studio), form, needs_prompt=False)
    prompts = read_prompts(text("prompts", given, MOST_TEXT))
    counted = text("contains", contains, MOST_WORD), text("starts with", starts, MOST_WORD)
    yield [_progress(0, len(prompts)), ""]

    def sides(prompt: str) -> list[SideAsked]:
        return asks(studio, asked, Dialogue().put(asked.names, prompt))

    done: list[AnsweredPrompt] = []
    for done in answer_all(prompts, sides, stops.current(request)):
        yield [_progress(len(done), len(prompts)) + _table(done, asked.names, *counted), gr.skip()]
    ended = "" if len(done) == len(prompts) else f"<p class='status'>Stopped after {len(done)} of {len(prompts)}.</p>"
    yield [ended + _table(done, asked.names, *counted), to_jsonl(done, asked.names)]


def _progress(done: int, of: int) -> str:
    said = f"{done} of {of} prompts answered"
    bar = f'<progress max="{of}" value="{done}" aria-label="{said}"></progress>'
    return f'<p class="status" role="status">{said} {bar}</p>'


def _table(answered: Sequence[AnsweredPrompt], names: Sequence[str], contains: str, starts: str) -> str:
    if not answered:
        return ""
    counts = [slices(answered, side, contains, starts) for side in range(len(names))]
    rows = [
        (name, [of_side.get(name, "0") for of_side in counts]) for name in dict.fromkeys(k for c in counts for k in c)
    ]
    known = [one.given.answer for one in answered]
    head = ["prompt", *(["answer"] if any(known) else []), *names]
    body = [
        [one.given.prompt, *([one.given.answer or ""] if any(known) else []), *(_said(state) for state in one.states)]
        for one in answered[:SHOWN_ROWS]
    ]
    more = (
        f"<p class='status'>{len(answered) - SHOWN_ROWS} more are in the file.</p>"
        if len(answered) > SHOWN_ROWS
        else ""
    )
    replies = table_as_html("Replies", head, body)
    return table_as_html("Figures of all", ["", *names], [[name, *found] for name, found in rows]) + replies + more


def _said(state: Any) -> str:
    return str(state.refused or state.reply.text)
