"""What the Compare tab does with a dialogue that rests: kept by the browser, taken back, linked, exported, learned."""

import json
from typing import Any
from urllib.parse import quote

import gradio as gr

from apps.comparing.compare_form import HOTTEST, MOST_SEED, MOST_TOKENS, MOST_TOP_K, read_form
from apps.comparing.compare_layout import Layout
from apps.showing.field_values import MOST_CHARACTERS, choice, number, text, whole
from apps.showing.refusals import refuse, says_errors
from apps.showing.studio_models import HIDDEN, names_of, names_with_steps
from apps.showing.studio_parts import StudioParts
from apps.showing.transcript import render_turns
from configs import InputError
from finetune.service.kept_rows import keep_row
from finetune.serving.dialogue import MOST_SIDES, Dialogue, read_dialogue

TOLD: dict[str, Any] = {**HIDDEN, "preprocess": False}
"""Of what can be refused: only what goes through the queue can say so."""
SAVES = """
(name, content) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], {type: 'text/plain;charset=utf-8'}));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
"""
"""Has the browser save a text under a name."""
ASKED = "ask"


def wire(studio: StudioParts, layout: Layout) -> None:
    """Wires all of it."""
    _wire_turns(layout)
    _wire_page(studio, layout)
    _wire_exports(studio, layout)
    for side, components in enumerate(layout.sides):
        components.keep.click(_keeping(studio, side), [layout.kept, layout.system], None, **TOLD)


def _wire_turns(layout: Layout) -> None:
    @says_errors
    def undo(kept: object) -> list[Any]:
        dialogue = read_dialogue(kept)
        prompt = dialogue.turns[-1].prompt if dialogue.turns else gr.skip()
        return [*_drawn(dialogue.without_last()), dialogue.without_last().to_json(), prompt]

    drawn = [*layout.shown, layout.kept, layout.prompt]
    layout.undo.click(undo, layout.kept, drawn, **TOLD)
    layout.new.click(lambda: [*_drawn(Dialogue()), "", gr.skip()], None, drawn, queue=False, **HIDDEN)


def _wire_page(studio: StudioParts, layout: Layout) -> None:
    """What a page shows when it is opened: the dialogue that the browser kept, and what its address asks for."""

    def restore(request: gr.Request, kept: object) -> list[Any]:
        try:
            dialogue = read_dialogue(kept)
        except InputError:  # of an older page: the browser begins anew
            dialogue = Dialogue()
        names, known = names_of(studio), names_with_steps(studio)
        linked = _read_link(request.query_params.get(ASKED, ""), known)
        chosen = [*(linked.get("sides") or dialogue.sides), *[None] * MOST_SIDES][:MOST_SIDES]
        models = [
            gr.update(choices=list(dict.fromkeys([*names, name])), value=name)
            if name in known
            else gr.update(choices=names)
            for name in chosen
        ]
        count = max(1, len(linked.get("sides") or dialogue.sides)) if linked or dialogue.sides else gr.skip()
        settings = [
            linked.get(name, gr.skip()) for name in ("prompt", "temperature", "top_k", "top_p", "seed", "tokens")
        ]
        return [*_drawn(dialogue), *models, count, *settings]

    models = [side.model for side in layout.sides]
    settings = [layout.prompt, layout.temperature, layout.top_k, layout.top_p, layout.seed, layout.tokens]
    page = gr.context.Context.root_block
    page.load(restore, layout.kept, [*layout.shown, *models, layout.count, *settings], **TOLD)


def _wire_exports(studio: StudioParts, layout: Layout) -> None:
    with gr.Accordion("Export and link", open=False, elem_id="exports"), gr.Row():
        markdown = gr.Button("Save as Markdown", elem_id="save-markdown")
        jsonl = gr.Button("Save as JSONL", elem_id="save-jsonl")
        link = gr.Button("Make a link", elem_id="make-link")
        address = gr.Textbox(
            label="Link to this prompt, its models and settings", buttons=["copy"], interactive=False, elem_id="link"
        )
    name, content = gr.Textbox(visible=False), gr.Textbox(visible=False)
    saving = {
        markdown: lambda kept, _: ("dialogue.md", _whole(kept).to_markdown()),
        jsonl: lambda kept, system: ("dialogue.jsonl", _whole(kept).to_jsonl(text("system", system, MOST_CHARACTERS))),
    }
    for button, make in saving.items():
        made = button.click(says_errors(make), [layout.kept, layout.system], [name, content], **TOLD)
        made.success(None, [name, content], None, js=SAVES, queue=False, **HIDDEN)

    @says_errors
    def make_link(request: gr.Request, *values: object) -> str:
        return f"{request.headers.get('referer', '').partition('?')[0]}?{ASKED}={quote(_link(studio, values))}"

    link.click(make_link, layout.form, address, **TOLD)


def _keeping(studio: StudioParts, side: int) -> Any:
    @says_errors
    def keep(kept: object, system: object) -> None:
        row = read_dialogue(kept).row(side, text("system", system, MOST_CHARACTERS))
        file, line = keep_row(studio.folder, row)
        gr.Info(f"Kept as line {line} of {file}: train on it with --data {file}")

    return keep


def _link(studio: StudioParts, values: tuple[object, ...]) -> str:
    asked = read_form(names_with_steps(studio), values, needs_prompt=False)
    sampling, prompt = asked.sides[0].sampling, text("prompt", values[0], MOST_CHARACTERS)
    if not prompt and asked.dialogue.turns:
        prompt = asked.dialogue.turns[-1].prompt
    return json.dumps(
        {
            "prompt": prompt,
            "sides": asked.names,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "tokens": asked.reply_tokens,
        },
        ensure_ascii=False,
    )


def _read_link(linked: str, names: list[str]) -> dict[str, Any]:
    """What an address asks for; nothing where it is none of this page's."""
    if not linked:
        return {}
    try:
        found = json.loads(linked)
        return {
            "prompt": text("prompt", found["prompt"], MOST_CHARACTERS),
            "sides": [choice("side", name, names) for name in found["sides"]][:MOST_SIDES],
            "temperature": number("temperature", found["temperature"], 0, HOTTEST),
            "top_k": whole("top-k", found["top_k"], 0, MOST_TOP_K),
            "top_p": number("top-p", found["top_p"], 0, 1),
            "seed": whole("seed", found["seed"], 0, MOST_SEED),
            "tokens": whole("tokens", found["tokens"], 1, MOST_TOKENS),
        }
    except (ValueError, KeyError, TypeError, InputError) as error:
        words = str(error) if isinstance(error, InputError) else "it is not one that this page made"
        gr.Warning(refuse(InputError(f"link: {words}: it is left aside")).message)
        return {}


def _whole(kept: object) -> Dialogue:
    dialogue = read_dialogue(kept)
    if not dialogue.turns:
        raise InputError("dialogue: has no turn yet, expected one to save: ask something first")
    return dialogue


def _drawn(dialogue: Dialogue) -> list[Any]:
    """The panes of a dialogue that rests."""
    shown: list[Any] = []
    for side in range(MOST_SIDES):
        shown += [render_turns(dialogue.turns, side) if side < len(dialogue.sides) else "", "", ""]
    return shown
