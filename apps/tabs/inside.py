"""The tab that looks into a model while it reads a prompt: what it expects next, where heads look, the logit lens."""

import gradio as gr

from apps.showing import field_values
from apps.showing.look import inert
from apps.showing.refusals import says_errors
from apps.showing.studio_parts import StudioParts
from finetune.service.looking import MOST_TOKENS, ModelsLookedInto, describe_looked_into
from scratch_models.looking.looked import Looked
from scratch_models.looking.looked_page import (
    following_as_html,
    head_as_html,
    heads_as_html,
    lens_as_html,
    reads_as_html,
    side_by_side,
    tokens_as_html,
)
from tokenizer_ext.pages.html_page import paragraph

MOST_CHARACTERS = 4_000
PROMPT = "The capital of France is"
EMPTY = paragraph("Press “Look inside” to have the model read the prompt.")
_QUIET = {"queue": False, "api_visibility": "private"}


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    asked = _build_prompt(studio)
    where = _build_choices()
    shown = _build_figures()
    looked_into = ModelsLookedInto(studio.open)

    @says_errors
    def look(name: object, prompt: object, in_chat: object) -> list[object]:
        read = _read(studio, name, prompt, in_chat)
        looked = looked_into.look(*read[:2], in_chat=read[2])
        about = describe_looked_into(read[0], studio.open(read[0]))
        ends, values = _ends(looked), [len(looked.ids), max(1, (looked.layers + 1) // 2), 1]
        moved = [gr.update(maximum=end, value=at) for end, at in zip(ends, values, strict=True)]
        return [inert(paragraph(about)), *moved, *_figures(looked, *(at - 1 for at in values))]

    @says_errors
    def choose(name: object, prompt: object, in_chat: object, *chosen: object) -> list[str]:
        read = _read(studio, name, prompt, in_chat)
        looked = looked_into.look(*read[:2], in_chat=read[2])
        places = zip(("token", "layer", "head"), chosen, _ends(looked), strict=True)
        at = [field_values.whole(place, one, 1, end) - 1 for place, one, end in places]
        return _figures(looked, *at)

    @says_errors
    def look_through_lens(name: object, prompt: object, in_chat: object) -> str:
        read = _read(studio, name, prompt, in_chat)
        return inert(lens_as_html(looked_into.look_through_lens(*read[:2], in_chat=read[2])))

    computes = {"preprocess": False, "concurrency_limit": 2, "concurrency_id": "models", "api_visibility": "private"}
    *parts, lens = shown
    gr.on(
        [asked[3].click, asked[1].submit], look, asked[:3], [asked[4], *where, *parts], show_progress="full", **computes
    ).success(look_through_lens, asked[:3], lens, show_progress="full", **computes)
    for slider in where:
        slider.input(
            choose, [*asked[:3], *where], parts, show_progress="minimal", trigger_mode="always_last", **computes
        )


def _ends(looked: Looked) -> list[int]:
    """The last token, layer and head."""
    return [len(looked.ids), max(1, looked.layers), max(1, looked.heads)]


def _figures(looked: Looked, token: int, layer: int, head: int) -> list[str]:
    return [
        inert(tokens_as_html(looked, token)),
        inert(side_by_side(following_as_html(looked, token), reads_as_html(looked, layer, head, token))),
        inert(heads_as_html(looked, token, layer, head)),
        inert(head_as_html(looked, layer, head)),
    ]


def _read(studio: StudioParts, name: object, prompt: object, in_chat: object) -> tuple[str, str, bool]:
    return (
        field_values.choice("model", name, studio.names),
        field_values.text("prompt", prompt, MOST_CHARACTERS),
        field_values.flag("as a question in a chat", in_chat),
    )


def _build_prompt(studio: StudioParts) -> list[gr.components.Component]:
    name = gr.Dropdown(studio.names, value=studio.assistant or studio.base, label="Model", elem_id="inside-model")
    prompt = gr.Textbox(
        PROMPT, label="Prompt", info=f"At most {MOST_TOKENS} tokens.", lines=1, max_lines=4, elem_id="inside-prompt"
    )
    with gr.Row():
        in_chat = gr.Checkbox(value=False, label="As a question in its chat format", elem_id="inside-chat")
        look = gr.Button("Look inside", variant="primary", scale=0, min_width=220, elem_id="inside-look")
    about = gr.HTML(EMPTY, elem_id="inside-about", elem_classes="shown")
    name.focus(lambda: gr.update(choices=studio.names), None, name, show_progress="hidden", **_QUIET)
    return [name, prompt, in_chat, look, about]


def _build_choices() -> list[gr.components.Component]:
    with gr.Row():
        return [
            gr.Slider(1, 2, value=1, step=1, label=label, elem_id=f"inside-{label.lower()}", buttons=[])
            for label in ("Token", "Layer", "Head")
        ]


def _build_figures() -> list[gr.components.Component]:
    tokens = gr.HTML(elem_id="inside-tokens", elem_classes="shown")
    following = gr.HTML(elem_id="inside-next", elem_classes="shown")
    heads = gr.HTML(elem_id="inside-heads", elem_classes="shown")
    head = gr.HTML(elem_id="inside-square", elem_classes="shown")
    lens = gr.HTML(elem_id="inside-lens", elem_classes="shown")
    return [tokens, following, heads, head, lens]
