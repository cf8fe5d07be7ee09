"""The part of the Difference tab that reads many texts and shows which tokens changed most."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from apps.comparing.scored_page import COMPUTES
from apps.comparing.token_marks import changed_rows
from apps.showing.field_values import choice, text, whole
from apps.showing.look import escape
from apps.showing.opened_files import add_opener
from apps.showing.refusals import says_errors
from apps.showing.stops import Stops
from apps.showing.studio_models import FORMATS, HIDDEN
from apps.showing.studio_parts import StudioParts
from configs import InputError
from finetune.serving.model_difference import ModelPair
from finetune.studio.given_texts import MOST_LETTERS, GivenText, pasted_texts, texts_of_file
from finetune.studio.most_changed import MostChanged
from finetune.studio.scored_texts import score_texts

PASTED = "what is pasted above"
MOST_TEXTS, SHOWN_TOKENS = 1000, 50
ORDERS = {"change": "By change of log-probability", "divergence": "By KL(base ‖ tuned)"}
EXAMPLE = '{"question": "Half of 48?", "answer": "24"}'


def build(studio: StudioParts, base: gr.Dropdown, tuned: gr.Dropdown, put: gr.Dropdown) -> None:
    """Lays it out and wires it; models and prompt format are the tab's."""
    stops = Stops()
    with gr.Accordion("The most changed tokens over many texts", open=False, elem_id="changed"):
        pasted = gr.Textbox(
            label="Conversations as JSON lines, or a text a line",
            lines=4,
            max_lines=12,
            placeholder=EXAMPLE,
            elem_id="changed-texts",
        )
        add_opener(pasted, MOST_LETTERS)
        with gr.Row():
            file = gr.Dropdown([PASTED], value=PASTED, label="Or a file of the service", elem_id="changed-file")
            most = gr.Number(50, minimum=1, maximum=MOST_TEXTS, step=1, label="Most texts", elem_id="changed-most")
            order = gr.Radio(
                [(words, name) for name, words in ORDERS.items()],
                value="change",
                label="Order",
                elem_id="changed-order",
            )
        with gr.Row():
            read = gr.Button("Read them", variant="primary", elem_id="changed-read")
            stop = gr.Button("Stop", elem_id="changed-stop")
        status = gr.HTML("<p>Nothing is read yet.</p>", elem_id="changed-status", elem_classes="status")
        rows, found = gr.HTML(elem_id="changed-rows"), gr.State()

    begun = read.click(stops.begin, None, None, queue=False, **HIDDEN)
    begun.then(_going(studio, stops), [base, tuned, put, pasted, file, most, order], [status, rows, found], **COMPUTES)
    stop.click(stops.stop, None, None, queue=False, **HIDDEN)
    order.change(_reorder, [order, found], rows, preprocess=False, concurrency_limit=4, **HIDDEN)
    file.focus(lambda: gr.update(choices=[PASTED, *_files(studio)]), None, file, queue=False, **HIDDEN)


def _going(studio: StudioParts, stops: Stops) -> Any:
    """Reads the texts, and tells of each."""

    @says_errors
    def go(request: gr.Request, *values: object) -> Iterator[list[Any]]:
        stopped = stops.current(request)
        yield [_said("Reading both models …"), "", gr.skip()]
        now = None
        for now in _score(studio, values):
            yield [_counted(now, stopped=stopped.is_set()), gr.skip(), gr.skip()]
            if stopped.is_set():
                break
        if now is not None:
            chosen = choice("order", values[6], list(ORDERS))
            yield [_counted(now, stopped=stopped.is_set(), done=True), _rows(now, chosen), now]

    return go


def _score(studio: StudioParts, values: tuple[object, ...]) -> Iterator[MostChanged]:
    names = studio.parts.names.with_steps()
    chosen = [choice(where, value, names) for where, value in zip(("base", "tuned"), values[:2], strict=True)]
    prompt_format = choice("format", values[2], list(FORMATS))
    texts = _texts(studio, values[3], values[4])
    most = whole("most texts", values[5], 1, MOST_TEXTS)
    return score_texts(ModelPair(*(studio.open(name) for name in chosen)), texts, prompt_format, most)


def _texts(studio: StudioParts, pasted: object, file: object) -> Iterator[GivenText]:
    if file == PASTED:
        given = text("texts", pasted or "", MOST_LETTERS)
        if not given.strip():
            raise InputError(f"texts: is empty, expected a text a line, or conversations such as {EXAMPLE}")
        return pasted_texts(given)
    files = _files(studio)
    stored = studio.parts.files.get(files[choice("file", file, [*files])])
    return texts_of_file(studio.parts.files.path_of(stored), stored.name, is_text=stored.kind == "text")


def _files(studio: StudioParts) -> dict[str, str]:
    """The files that hold conversations or text, by what the page calls them: their ids."""
    found = [file for file in studio.parts.files.all() if file.kind in ("conversations", "text")]
    return {f"{file.name}: {file.records:,} {file.kind}, {file.id}": file.id for file in found}


@says_errors
def _reorder(order: object, found: MostChanged | None) -> Any:
    return _rows(found, choice("order", order, list(ORDERS))) if found else gr.skip()


def _rows(found: MostChanged, order: str) -> str:
    tokens = found.most("divergence" if order == "divergence" else "change", SHOWN_TOKENS)
    return changed_rows(tokens) if tokens else "<p>No token was scored by both.</p>"


def _counted(found: MostChanged, *, stopped: bool, done: bool = False) -> str:
    """What was read so far, and what was not."""
    state = "stopped" if stopped else "read" if done else "reading …"
    said = [f"{state}: {found.texts:,} texts, {found.tokens:,} stretches scored by both, {found.unscored:,} by neither"]
    if found.bits:
        base, tuned = (sum(side) / len(found.bits) for side in zip(*found.bits, strict=True))
        said.append(f"bits per byte, the mean of the texts: base {base:.3f}, tuned {tuned:.3f}")
    said += [f"left out: {count:,} {why}" for why, count in found.left_out.items()]
    return "".join(map(_said, said))


def _said(words: str) -> str:
    return f"<p>{escape(words)}</p>"
