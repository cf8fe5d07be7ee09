"""The Compare tab laid out: the sides, the prompt under them, how replies are sampled."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.comparing.compare_form import FORMATS, HOTTEST, MOST_SEED, MOST_TOKENS, MOST_TOP_K
from apps.showing.run_steps import add_slider
from apps.showing.studio_models import HIDDEN, names_of
from apps.showing.studio_parts import StudioParts
from apps.showing.transcript import COPIES
from finetune.serving.dialogue import MOST_SIDES
from tokenizer_ext.pages.shortened import shorten

LETTERS = "ABCD"
LABEL_CHARACTERS = 60
FIRST_TOKENS = 128
KEPT_AS = "graft-dialogue"


@dataclass(frozen=True, kw_only=True)
class Side:
    """The components of one side."""

    column: gr.Column
    model: gr.Dropdown
    prompt_format: gr.Dropdown
    past: gr.HTML
    now: gr.HTML
    proof: gr.HTML
    keep: gr.Button
    own: gr.Row
    temperature: gr.Slider
    top_p: gr.Slider
    seed: gr.Number


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The components of the tab."""

    sides: list[Side]
    count: gr.Radio
    prompt: gr.Textbox
    ask: gr.Button
    stop: gr.Button
    again: gr.Button
    undo: gr.Button
    new: gr.Button
    system: gr.Textbox
    temperature: gr.Slider
    top_k: gr.Slider
    top_p: gr.Slider
    seed: gr.Number
    tokens: gr.Slider
    apart: gr.Checkbox
    kept: gr.BrowserState

    @property
    def form(self) -> list[gr.components.Component]:
        """What `read_form` reads, in its order."""
        shared = [self.prompt, self.kept, self.count, self.system, self.temperature, self.top_k, self.top_p]
        of_each = [[one.model, one.prompt_format, one.temperature, one.top_p, one.seed] for one in self.sides]
        return [*shared, self.seed, self.tokens, self.apart, *(one for side in of_each for one in side)]

    @property
    def shown(self) -> list[gr.components.Component]:
        """What shows the replies of each side."""
        return [one for side in self.sides for one in (side.past, side.now, side.proof)]


def lay_out(studio: StudioParts) -> Layout:
    """The tab."""
    names = names_of(studio)
    first = [studio.base, studio.assistant or studio.base, *[studio.base] * (MOST_SIDES - 2)]
    panes: list[dict[str, Any]] = []
    with gr.Row(equal_height=False, elem_id="sides"):
        for number, name in enumerate(first):
            with gr.Column(min_width=260, visible=number < 2, elem_id=f"side-{number}", elem_classes="side") as column:
                panes.append({"column": column, **_pane(studio, number, name, names)})
    prompt = _prompt(studio)
    with gr.Accordion("Sampling, format and number of sides", open=False, elem_id="settings"):
        shared = _sampling()
        own = [_own(number, visible=number < 2) for number in range(MOST_SIDES)]
    kept = gr.BrowserState("", storage_key=KEPT_AS, secret=KEPT_AS)
    sides = [Side(**one, **how) for one, how in zip(panes, own, strict=True)]
    layout = Layout(sides=sides, kept=kept, **prompt, **shared)
    _wire_sides(layout)
    return layout


def _pane(studio: StudioParts, number: int, name: str, names: list[str]) -> dict[str, Any]:
    letter = LETTERS[number]
    label = ("A: the base", "B: the assistant")[number] if number < 2 else letter
    model = gr.Dropdown(names, value=name, label=label, elem_id=f"model-{number}", filterable=True)
    add_slider(studio, model, f"step-{number}")
    with gr.Column(elem_classes="talk", elem_id=f"talk-{number}"):
        past = gr.HTML(elem_id=f"past-{number}", js_on_load=COPIES)
        now = gr.HTML(elem_id=f"now-{number}", js_on_load=COPIES)
    proof = gr.HTML(elem_id=f"proof-{number}", elem_classes="status")
    keep = gr.Button(f"Keep {letter}'s replies as a training row", size="sm", elem_id=f"keep-{number}")
    return {"model": model, "past": past, "now": now, "proof": proof, "keep": keep}


def _prompt(studio: StudioParts) -> dict[str, Any]:
    with gr.Group(elem_id="composer"):
        prompt = gr.Textbox(
            label="Prompt",
            lines=1,
            max_lines=12,
            autofocus=True,
            placeholder="Ask all sides something. Enter asks, Shift+Enter begins a new line.",
            elem_id="prompt",
        )
        with gr.Row():
            ask = gr.Button("Ask", variant="primary", min_width=90, elem_id="ask")
            stop = gr.Button("Stop", min_width=70, interactive=False, elem_id="stop")
            again = gr.Button("Ask again", min_width=90, elem_id="again")
            undo = gr.Button("Edit last", min_width=90, elem_id="undo")
            new = gr.Button("New", min_width=70, elem_id="new")
    if studio.examples:
        with gr.Row(elem_id="examples"):
            for question in studio.examples:
                one = gr.Button(short_label(question), size="sm", min_width=200)
                one.click(lambda question=question: question, None, prompt, queue=False, **HIDDEN)
    return {"prompt": prompt, "ask": ask, "stop": stop, "again": again, "undo": undo, "new": new}


def _sampling() -> dict[str, Any]:
    with gr.Row():
        count = gr.Radio([1, 2, 3, 4], value=2, label="Sides", elem_id="count")
        apart = gr.Checkbox(False, label="Sample each side in its own way", elem_id="apart")
    system = gr.Textbox("", label="System message", lines=1, max_lines=6, placeholder="none", elem_id="system")
    with gr.Row():
        temperature = gr.Slider(
            0, HOTTEST, 0, step=0.05, label="Temperature", info="0 is greedy.", elem_id="temperature"
        )
        top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="1 is off.", elem_id="top-p")
        top_k = gr.Slider(0, MOST_TOP_K, 0, step=1, label="Top-k", info="0 is off; a server has none.", elem_id="top-k")
    with gr.Row():
        seed = gr.Number(
            0, minimum=0, maximum=MOST_SEED, step=1, label="Seed", info="The same noise on all sides.", elem_id="seed"
        )
        tokens = gr.Slider(1, MOST_TOKENS, FIRST_TOKENS, step=1, label="Most tokens of a reply", elem_id="tokens")
    found = {"count": count, "apart": apart, "system": system, "temperature": temperature}
    return {**found, "top_k": top_k, "top_p": top_p, "seed": seed, "tokens": tokens}


def _own(number: int, *, visible: bool) -> dict[str, Any]:
    letter = LETTERS[number]
    prompt_format = gr.Dropdown(
        [(words, known) for known, words in FORMATS.items()],
        value="auto",
        label=f"How {letter} is asked",
        filterable=False,
        visible=visible,
        elem_id=f"format-{number}",
    )
    with gr.Row(visible=False) as row:
        temperature = gr.Slider(0, HOTTEST, 0, step=0.05, label=f"Temperature of {letter}")
        top_p = gr.Slider(0.05, 1, 1, step=0.05, label=f"Top-p of {letter}")
        seed = gr.Number(0, minimum=0, maximum=MOST_SEED, step=1, label=f"Seed of {letter}")
    how = {"temperature": temperature, "top_p": top_p, "seed": seed}
    return {"own": row, "prompt_format": prompt_format, **how}


def _wire_sides(layout: Layout) -> None:
    """As many sides as were chosen are seen."""

    def show(count: int, apart: bool) -> list[object]:
        seen = [number < count for number in range(MOST_SIDES)]
        columns, formats = ([gr.update(visible=one) for one in seen] for _ in range(2))
        return [*columns, *formats, *[gr.update(visible=one and apart) for one in seen]]

    sides = layout.sides
    changed = [*(one.column for one in sides), *(one.prompt_format for one in sides), *(one.own for one in sides)]
    gr.on(
        [layout.count.change, layout.apart.change], show, [layout.count, layout.apart], changed, queue=False, **HIDDEN
    )


def short_label(question: str) -> str:
    r"""The last line of a question, which asks, cut to fit a button.

    >>> short_label("torch.abs(input) -> Tensor\n\nWhat does abs do?")
    'What does abs do?'
    """
    line = question.strip().splitlines()[-1].strip()
    return shorten(line, LABEL_CHARACTERS)
