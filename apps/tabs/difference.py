"""The tab that scores one text by two models, token by token, and goes on from a token that is put in its place."""

import gradio as gr

from apps.comparing import changed_texts
from apps.comparing.scored_page import COMPUTES, MOST_FORCED, NOTHING_YET, ScoredPage
from apps.comparing.token_marks import COLOURS
from apps.showing.run_steps import add_slider
from apps.showing.studio_models import FORMATS, HIDDEN
from apps.showing.studio_parts import StudioParts

PRESSED = "(...values) => [document.activeElement?.closest('[data-%s]')?.dataset.%s ?? '', ...values.slice(1)]"
"""Tells of a click in HTML which of its buttons was pressed; with the keyboard too, since that has the focus."""


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    names = studio.names
    with gr.Row():
        base = gr.Dropdown(names, value=studio.base, label="Base", elem_id="difference-base")
        tuned = gr.Dropdown(names, value=studio.assistant or studio.base, label="Tuned", elem_id="difference-tuned")
        formats = [(words, name) for name, words in FORMATS.items()]
        put = gr.Dropdown(formats, value="auto", label="How the prompt is put", elem_id="difference-format")
    add_slider(studio, tuned, "difference-step")
    prompt = gr.Textbox(label="Prompt (may be left out)", lines=1, max_lines=8, elem_id="difference-prompt")
    said = gr.Textbox(
        label="Text to score", lines=3, max_lines=12, elem_id="difference-text", placeholder="What follows the prompt"
    )
    with gr.Row():
        score = gr.Button("Score", variant="primary", elem_id="difference-score")
        replies = [
            gr.Button(f"Take the {side}'s reply", elem_id=f"difference-reply-{side}") for side in ("base", "tuned")
        ]
        tokens = gr.Slider(1, MOST_FORCED, 64, step=1, label="Most tokens of a reply", elem_id="difference-most")
    colour = gr.Radio(
        [(words, name) for name, words in COLOURS.items()], value="change", label="Colour", elem_id="difference-colour"
    )
    status = gr.HTML(NOTHING_YET, elem_id="difference-status", elem_classes="status")
    marks = gr.HTML(elem_id="difference-marks")
    likely = gr.HTML(elem_id="difference-likely")
    pressed, shown = gr.Textbox(visible=False), gr.State()
    page = ScoredPage(studio, [base, tuned, put, prompt, said], [status, marks, likely, shown], colour)
    score.click(page.score, [*page.form, colour], page.shown, **COMPUTES)
    for number, button in enumerate(replies):
        asked = button.click(page.replying(number), [*page.form[:4], tokens], [said, status], **COMPUTES)
        asked.success(page.score, [*page.form, colour], page.shown, **COMPUTES)
    colour.change(page.recolour, [colour, shown], [status, marks], preprocess=False, concurrency_limit=4, **HIDDEN)
    marks.click(page.pick, [pressed, shown], likely, js=PRESSED % (("token",) * 2), preprocess=False, **HIDDEN)
    forced = [pressed, shown, colour, tokens]
    likely.click(page.force, forced, [said, *page.shown], js=PRESSED % (("force",) * 2), **COMPUTES)
    changed_texts.build(studio, base, tuned, put)
