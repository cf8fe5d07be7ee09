"""The tab of the blind vote: two replies to one prompt without names, by keys 1 to 4, and what the votes come to."""

from functools import partial
from typing import Any

import gradio as gr

from apps.comparing.blind_page import BUTTONS, MOST_QUESTIONS, NO_NAMES, BlindPage
from apps.comparing.compare_form import HOTTEST, MOST_SEED, MOST_TOKENS
from apps.showing.opened_files import add_opener
from apps.showing.stops import Stops
from apps.showing.studio_models import FORMATS, HIDDEN, names_of
from apps.showing.studio_parts import StudioParts
from finetune.votes import VoteBook

ELEMENTS = ("vote-1", "vote-2", "vote-3", "vote-4")
KEYS = """
() => {
  if (window.graftVotes) return;
  window.graftVotes = true;
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest('input, textarea, select, [contenteditable=true]');
    if (typing || event.ctrlKey || event.altKey || event.metaKey || !/^[1-4]$/.test(event.key)) return;
    const button = document.getElementById('vote-' + event.key);
    if (button && button.offsetParent !== null && !button.disabled) button.click();
  });
}
"""
"""Has the keys 1 to 4 press the buttons while they can be seen, and while nothing is being typed."""
PLAIN: dict[str, Any] = {**HIDDEN, "preprocess": False, "concurrency_limit": 4}


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    page = BlindPage(studio, VoteBook(studio.folder), Stops())
    names = names_of(studio)
    with gr.Row():
        first = gr.Dropdown(names, value=studio.base, label="First model", elem_id="vote-first")
        second = gr.Dropdown(names, value=studio.assistant, label="Second model, to be tuned", elem_id="vote-second")
    prompt = gr.Textbox(label="Prompt", lines=1, max_lines=8, elem_id="vote-prompt", placeholder="Enter asks both")
    with gr.Row():
        ask = gr.Button("Ask both", variant="primary", min_width=120, elem_id="vote-ask")
        following = gr.Button("Ask the next question", min_width=120, elem_id="vote-next")
        stop = gr.Button("Stop", min_width=80, elem_id="vote-stop")
    settings = _settings(studio)
    status = gr.HTML("", elem_id="vote-status", elem_classes="status")
    with gr.Row(equal_height=True, elem_id="vote-panes"):
        panes = [gr.HTML(head, elem_id=f"vote-pane-{n}", min_height=120) for n, head in enumerate(NO_NAMES, 1)]
    with gr.Row():
        buttons = [
            gr.Button(words, interactive=False, min_width=110, elem_id=name)
            for words, name in zip(BUTTONS, ELEMENTS, strict=True)
        ]
    ballot = gr.State()
    standings = gr.HTML(page.standings, elem_id="vote-standings")
    form = [prompt, settings[0], first, second, *settings[1:]]
    shown = [prompt, status, *panes, *buttons, ballot]
    for triggers, answer in (([ask.click, prompt.submit], page.ask), ([following.click], page.ask_next)):
        begun = gr.on(triggers, page.stops.begin, None, None, queue=False, **HIDDEN)
        begun.then(answer, form, shown, preprocess=False, concurrency_limit=16, concurrency_id="replies", **HIDDEN)
    stop.click(page.stops.stop, None, None, queue=False, **HIDDEN)
    for number, button in enumerate(buttons):
        button.click(partial(page.vote, number), ballot, [*shown[1:], standings], **PLAIN)
    _wire_export(page, first, second)
    gr.context.Context.root_block.load(None, None, None, js=KEYS, api_visibility="private")
    gr.context.Context.root_block.unload(page.stops.leave)


def _settings(studio: StudioParts) -> list[gr.components.Component]:
    """Questions, temperature, seed, most tokens, and how both are asked."""
    with gr.Accordion("Questions and sampling", open=False, elem_id="vote-settings"):
        questions = gr.Textbox(
            "\n".join(" ".join(question.split()) for question in studio.examples),
            label="Questions, one a line",
            lines=4,
            max_lines=12,
            elem_id="vote-questions",
        )
        add_opener(questions, MOST_QUESTIONS, ".txt,.md")
        with gr.Row():
            temperature = gr.Slider(0, HOTTEST, 0.7, step=0.05, label="Temperature of both", elem_id="vote-temperature")
            seed = gr.Number(0, minimum=0, maximum=MOST_SEED, step=1, label="Seed of both", elem_id="vote-seed")
            tokens = gr.Slider(1, MOST_TOKENS, 128, step=1, label="Most tokens of a reply", elem_id="vote-tokens")
            formats = [(words, name) for name, words in FORMATS.items()]
            put = gr.Dropdown(formats, value="auto", label="How both are asked", elem_id="vote-format")
    return [questions, temperature, seed, tokens, put]


def _wire_export(page: BlindPage, first: gr.Dropdown, second: gr.Dropdown) -> None:
    with gr.Row():
        export = gr.Button("Write the votes as preference pairs", elem_id="vote-export")
        queue = gr.Button("Queue a DPO run of the second model on them", elem_id="vote-queue")
    told = gr.HTML("", elem_id="vote-told", elem_classes="status")
    export.click(page.export, [first, second], told, **PLAIN)
    queue.click(page.queue, [first, second], told, **PLAIN)
