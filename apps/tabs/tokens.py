"""The tab that cuts a text with two vocabularies side by side, shows what a conversation teaches, and audits one."""

import gradio as gr

from apps.showing import field_values
from apps.showing.look import inert
from apps.showing.refusals import says_errors
from apps.showing.studio_parts import StudioParts
from finetune.service.own_tokenizers import own_tokenizer
from finetune.service.shown_mask import mask_as_parts
from tokenizer_ext.inspection.audit import audit_tokens
from tokenizer_ext.inspection.audit_report import audit_parts
from tokenizer_ext.inspection.pieces_page import compared_as_html
from tokenizer_ext.pages.html_page import paragraph

MOST_CHARACTERS = 100_000
EXAMPLE = "The café's naïve résumé: 東京 🙂\tcosts 1,234.50 €\nmodel.transformer.wte(input_ids)  # (B, T, D)"
CONVERSATION = """[{"role": "system", "content": "Be brief."},
 {"role": "user", "content": "What is 2 + 2?"},
 {"role": "assistant", "content": "It is 4."}]"""
ARROWS = """() => {
  if (window.graftPieces) return;
  window.graftPieces = true;
  document.addEventListener("keydown", (event) => {
    const piece = event.target.closest?.(".pieces .piece");
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!piece || step === undefined) return;
    event.preventDefault();
    const all = [...piece.parentElement.querySelectorAll(".piece")];
    const next = all[Math.max(0, Math.min(all.length - 1, all.indexOf(piece) + step))];
    piece.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}"""
"""Lets the arrows go from piece to piece, as in any row of buttons that is one stop of the tab key."""


_QUIET = {"queue": False, "api_visibility": "private"}


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    gr.context.Context.root_block.load(None, None, None, js=ARROWS, api_visibility="private")
    _build_text(studio)
    with gr.Accordion("What of a conversation is learned", open=False, elem_id="tokens-mask-box"):
        _build_mask(studio)
    with gr.Accordion("Audit of a vocabulary", open=False, elem_id="tokens-audit-box"):
        _build_audit(studio)


def _build_text(studio: StudioParts) -> None:
    """A text in two vocabularies."""
    names, first, second = studio.names, studio.base, studio.assistant or studio.base
    with gr.Row():
        left = gr.Dropdown(names, value=first, label="Vocabulary on the left", elem_id="tokens-left")
        right = gr.Dropdown(names, value=second, label="Vocabulary on the right", elem_id="tokens-right")
    text = gr.Textbox(EXAMPLE, label="Text", lines=4, max_lines=12, elem_id="tokens-text")
    with gr.Row():
        control = gr.Checkbox(
            value=False,
            label="Names of control tokens in the text count as these",
            info="Without it they are letters and signs, as in what a user says in a chat.",
            elem_id="tokens-control",
        )
        show = gr.Button("Show tokens", variant="primary", scale=0, min_width=220, elem_id="tokens-show")
    shown = gr.HTML(
        paragraph("Press “Show tokens” to see the text in both vocabularies."),
        elem_id="tokens-shown",
        elem_classes="shown",
    )

    @says_errors
    def cut(left: object, right: object, text: object, control: object) -> str:
        found = [field_values.choice(place, name, studio.names) for name, place in ((left, "left"), (right, "right"))]
        said, counts = field_values.text("text", text, MOST_CHARACTERS), field_values.flag("control", control)
        sides = [(name, own_tokenizer(studio.parts.names.place_of(name))) for name in found]
        return inert(compared_as_html(sides, said, control=counts))

    gr.on(
        [show.click, text.submit, left.input, right.input, control.input],
        cut,
        [left, right, text, control],
        shown,
        show_progress="full",
        preprocess=False,
        concurrency_limit=2,
        api_visibility="private",
    )
    for choice in (left, right):
        choice.focus(lambda: gr.update(choices=studio.names), None, choice, show_progress="hidden", **_QUIET)


def _build_mask(studio: StudioParts) -> None:
    """The loss mask of a conversation in a model's chat format."""
    name = gr.Dropdown(
        studio.names,
        value=studio.assistant or studio.base,
        label="Model whose chat template is used",
        elem_id="mask-model",
    )
    conversation = gr.Textbox(
        CONVERSATION, label="Conversation: a list of messages in JSON", lines=5, max_lines=16, elem_id="mask-text"
    )
    show = gr.Button("Show what is learned", elem_id="mask-show")
    shown = gr.HTML(paragraph("Green will be what a tuning learns."), elem_id="mask-shown", elem_classes="shown")

    @says_errors
    def mask(name: object, conversation: object) -> str:
        place = studio.parts.names.place_of(field_values.choice("model", name, studio.names))
        return inert("".join(mask_as_parts(place, field_values.text("conversation", conversation, MOST_CHARACTERS))))

    gr.on(
        [show.click, conversation.submit, name.input],
        mask,
        [name, conversation],
        shown,
        show_progress="full",
        preprocess=False,
        concurrency_limit=2,
        api_visibility="private",
    )
    name.focus(lambda: gr.update(choices=studio.names), None, name, show_progress="hidden", **_QUIET)


def _build_audit(studio: StudioParts) -> None:
    """What each token of a model is good for, and which rows look untrained; this reads its weights."""
    name = gr.Dropdown(studio.names, value=studio.base, label="Model to audit", elem_id="audit-model")
    start = gr.Button("Audit", elem_id="audit-start")
    shown = gr.HTML(
        paragraph("Sorts every token by what text can do with it, and looks at the rows. It takes some seconds."),
        elem_id="audit-shown",
        elem_classes="shown",
    )

    @says_errors
    def audit(name: object) -> str:
        chosen = field_values.choice("model", name, studio.names)
        served = studio.open(chosen)
        parts = audit_parts(audit_tokens(served.side.model, served.side.tokenizer))
        of_base = paragraph("Its adapter lies over a shared base: the rows are those of the base.")
        return inert("".join([*([of_base] if served.adapter else []), *parts]))

    start.click(
        audit,
        name,
        shown,
        show_progress="full",
        preprocess=False,
        concurrency_limit=2,
        concurrency_id="models",
        api_visibility="private",
    )
    name.focus(lambda: gr.update(choices=studio.names), None, name, show_progress="hidden", **_QUIET)
