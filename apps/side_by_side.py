"""The tab that asks base and assistant the same and streams both replies."""

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from apps.form import MAXIMUM_SEED, MAXIMUM_TEMPERATURE, MAXIMUM_TOKENS, MAXIMUM_TOP_K, read_form
from apps.pair import Pair, formats_of
from apps.panes import Pane, answer_side_by_side
from apps.showing.look import escape
from configs import InputError
from finetune.replies.side import Side, name_exactly
from tokenizer_ext.pages.shortened import shorten

LABEL_CHARACTERS = 60
PANE_LINES = 13


class Stops:
    """The event that ends the replies of each open page."""

    def __init__(self) -> None:
        self._events: dict[str | None, threading.Event] = {}

    def begin(self, request: gr.Request) -> None:
        """Makes a fresh event for the page; replies that it still has under way end."""
        self.stop(request)
        self._events[request.session_hash] = threading.Event()

    def current(self, request: gr.Request) -> threading.Event:
        """The event that the page's replies watch."""
        return self._events.get(request.session_hash) or threading.Event()

    def stop(self, request: gr.Request) -> None:
        """Ends what the page has under way, also what still waits in the queue."""
        self.current(request).set()

    def leave(self, request: gr.Request) -> None:
        """Ends what a page that was closed had under way, and drops it."""
        self.stop(request)
        self._events.pop(request.session_hash, None)


def build(page: gr.Blocks, pair: Pair, examples: list[str]) -> None:
    """Lays out the tab in the page under construction, and wires it."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            prompt, ask, stop = _prompt_box(examples)
            outputs = _reply_panes(pair)
        with gr.Column(scale=1, min_width=260):
            settings = [*_formats(pair), *_sampling(pair)]
    stops = Stops()
    _wire(pair, stops, [prompt, *settings], outputs, ask, stop)
    page.unload(stops.leave)


def render(panes: tuple[Pane, ...]) -> list[str]:
    """What the components show: the text of each pane, and its line below.

    >>> render((Pane(), Pane(refused="1 < 2")))
    ['', '0 tokens · …', '', '<span class="refused">1 &lt; 2</span>']
    """
    shown = []
    for pane in panes:
        status = escape(pane.status)
        shown += [pane.text, f'<span class="refused">{status}</span>' if pane.refused else status]
    return shown


def short_label(question: str) -> str:
    r"""The last line of a question, which asks, cut to fit a button.

    >>> short_label("torch.abs(input) -> Tensor\n\nWhat does abs do?")
    'What does abs do?'
    """
    line = question.strip().splitlines()[-1].strip()
    return shorten(line, LABEL_CHARACTERS)


def _prompt_box(examples: list[str]) -> tuple[gr.Textbox, gr.Button, gr.Button]:
    prompt = gr.Textbox(
        label="Prompt",
        lines=4,
        max_lines=12,
        placeholder="Ask both models something. Shift+Enter asks.",
        elem_id="prompt",
    )
    with gr.Row():
        ask = gr.Button("Ask both", variant="primary", scale=3, min_width=120, elem_id="ask")
        stop = gr.Button("Stop", scale=1, min_width=80, elem_id="stop")
    if examples:
        gr.Examples(
            [[example] for example in examples],
            prompt,
            label="Held-out questions of the run",
            example_labels=[short_label(example) for example in examples],
            cache_examples=False,
            preload=False,
            api_visibility="private",
        )
    return prompt, ask, stop


def _reply_panes(pair: Pair) -> list[gr.Component]:
    outputs = []
    base, assistant = pair.names.titles
    labels = {"base": f"Base: {base}", "assistant": f"Assistant: {assistant}"}
    with gr.Row():
        for (name, label), side in zip(labels.items(), pair.sides, strict=True):
            with gr.Column(min_width=300, elem_classes="reply"):
                # A text box shows what a model says as it is, whatever markup is in it.
                outputs.append(
                    gr.Textbox(
                        label=label,
                        lines=PANE_LINES,
                        max_lines=PANE_LINES,
                        interactive=False,
                        buttons=["copy"],
                        elem_id=name,
                    )
                )
                outputs.append(gr.HTML(elem_id=f"{name}-status", elem_classes="status"))
                gr.HTML(escape(describe(side)), elem_id=f"{name}-badge", elem_classes="status")
    return outputs


def describe(side: Side) -> str:
    """The badge of a side: its name, what exactly it is, and its chat format."""
    return f"{name_exactly(side)} · {side.chat_format}"


def _formats(pair: Pair) -> list[gr.Component]:
    """How each is asked, in the order of `read_form`."""
    with gr.Group():
        return [
            gr.Dropdown(
                [(words, prompt_format) for prompt_format, words in formats_of(side).items()],
                value=first,
                label=f"How the {name} is asked",
                info=None if side.knows_chat else "It has no chat format, so it continues a text.",
                filterable=False,
                elem_id=f"{name}-format",
            )
            for name, side, first in zip(("base", "assistant"), pair.sides, pair.first_formats, strict=True)
        ]


def _sampling(pair: Pair) -> list[gr.Component]:
    """The rest of the form, in the order of `read_form`."""
    local = all(side.is_local for side in pair.sides)
    noise = "Gives both the same noise." if local else "A server makes of it what it can."
    with gr.Group():
        return [
            gr.Slider(0, MAXIMUM_TEMPERATURE, 0.8, step=0.05, label="Temperature", info="0 is greedy."),
            gr.Slider(
                0, MAXIMUM_TOP_K, 0, step=1, label="Top-k", info="0 is off." if local else "A server has none: 0."
            ),
            gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="1 is off."),
            gr.Number(0, minimum=0, maximum=MAXIMUM_SEED, step=1, label="Seed", info=noise),
            gr.Slider(1, MAXIMUM_TOKENS, 96, step=1, label="Maximum tokens"),
        ]


def _wire(
    pair: Pair,
    stops: Stops,
    form: list[gr.Component],
    outputs: list[gr.Component],
    ask: gr.Button,
    stop: gr.Button,
) -> None:
    def begin(request: gr.Request) -> Any:
        stops.begin(request)
        return gr.update(interactive=False)

    def answer(request: gr.Request, *values: object) -> Iterator[list[Any]]:
        try:
            asked = read_form(*values)
            models = pair.models(asked)
        except InputError as error:  # the last replies stay
            raise gr.Error(escape(str(error)), duration=10, print_exception=False) from None
        for panes in answer_side_by_side(models, asked, stops.current(request)):
            yield render(panes)
        if all(pane.refused for pane in panes):
            gr.Warning(escape(panes[0].refused))

    shown: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "multiple"}
    hidden: dict[str, Any] = {**shown, "api_visibility": "private"}
    asks = gr.on([ask.click, form[0].submit], begin, None, ask, queue=False, **hidden)
    # One generator feeds both panes: two events would wait for each other. Raw values: `read_form` checks them all.
    # It is the one function that Gradio's client can call, as `/ask`.
    replies = asks.then(answer, form, outputs, preprocess=False, concurrency_limit=1, api_name="ask", **shown)
    for ended in (replies.then, replies.failure):  # after an error, such as a full queue, only the second is run
        ended(lambda: gr.update(interactive=True), None, ask, queue=False, **hidden)
    stop.click(stops.stop, queue=False, **hidden)
