"""The tab that proposes new tokens for a text, lets single ones be struck, and has a job of the queue add them."""

from typing import Any

import gradio as gr

from apps.api.jobs import queue
from apps.api.tasks import EXTENSION, KIND_OF
from apps.showing import field_values
from apps.showing.look import inert
from apps.showing.opened_files import add_opener
from apps.showing.refusals import says_errors
from apps.showing.studio_parts import StudioParts
from finetune.runs.job import ENDED, Job
from finetune.service.extensions import AskedExtension, texts_in, toggle_line
from finetune.service.shown_extension import extension_as_html
from tokenizer_ext.inspection.proposal_page import curve_as_html, tokens_as_html
from tokenizer_ext.pages.html_page import paragraph

PASTED = ""
MOST_CHARACTERS, MOST_TOKENS, MOST_LINES = 1_000_000, 100_000, 200_000
SECONDS_BETWEEN_LOOKS = 1.5
PRESSED = "(_, text) => [document.activeElement?.closest('[data-strike]')?.dataset.strike ?? '', text]"
"""Tells which row's button was pressed; with the keyboard too, since that has the focus."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "preprocess": False}
EMPTY = paragraph("Paste text of your field, or choose a file, and press “Propose tokens”. Nothing is changed by it.")
NO_JOB = paragraph("An extension that was started is watched here.")


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    form = _build_form(studio)
    with gr.Row():
        propose = gr.Button("Propose tokens", variant="primary", elem_id="extend-propose")
        knee = gr.Button("Take as many as at the knee", elem_id="extend-knee", interactive=False)
        run = gr.Button("Run the extension", elem_id="extend-run")
    found_knee, pressed = gr.State(0), gr.Textbox(visible=False)
    curve = gr.HTML(EMPTY, elem_id="extend-curve", elem_classes="shown")
    tokens = gr.HTML(elem_id="extend-tokens", elem_classes="shown")
    jobs = gr.Dropdown(_jobs(studio), label="Extensions", elem_id="extend-jobs", value=None)
    cancel = gr.Button("Cancel it", elem_id="extend-cancel", interactive=False)
    status = gr.HTML(NO_JOB, elem_id="extend-status", elem_classes="shown")
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)

    @says_errors
    def plan(*values: object) -> list[object]:
        proposal = _read(studio, values).plan(studio.parts.files)
        shown = [inert(curve_as_html(proposal)), inert(tokens_as_html(proposal))]
        return [*shown, proposal.knee, gr.update(interactive=0 < proposal.knee < len(proposal.tokens))]

    @says_errors
    def start(*values: object) -> list[object]:
        asked = _read(studio, values)
        settings, file_id = asked.settings(studio.parts.files, studio.folder)
        details = {"model": values[0], "training_file": file_id, "new_tokens": asked.new_tokens}
        job = queue(studio.parts, KIND_OF[EXTENSION], settings, "", "", details)
        return [gr.update(choices=_jobs(studio), value=job.id), *_watched(studio, job.id)]

    work = {"show_progress": "full", "preprocess": False, "api_visibility": "private", "concurrency_limit": 1}
    propose.click(plan, form, [curve, tokens, found_knee, knee], concurrency_id="planning", **work)
    knee.click(lambda count: count, found_knee, form[3], **QUIET)
    tokens.click(says_errors(toggle_line), [pressed, form[5]], form[5], js=PRESSED, **QUIET)
    watched = [status, timer, cancel]
    run.click(start, form, [jobs, *watched], concurrency_id="planning", **work)
    watch = says_errors(lambda job: _watched(studio, job))
    jobs.input(watch, jobs, watched, **QUIET)
    timer.tick(watch, jobs, watched, **QUIET)
    cancel.click(says_errors(lambda job: _watched(studio, job, cancel=True)), jobs, watched, **QUIET)
    jobs.focus(lambda: gr.update(choices=_jobs(studio)), None, jobs, **QUIET)


def _build_form(studio: StudioParts) -> list[gr.components.Component]:
    """Base, text, file, number, words to take, tokens to leave out."""
    with gr.Row():
        base = gr.Dropdown(studio.names, value=studio.base, label="Base", elem_id="extend-base")
        file = gr.Dropdown(_files(studio), value=PASTED, label="Text to learn from", elem_id="extend-file")
        number = gr.Number(
            200, label="New tokens", minimum=1, maximum=MOST_TOKENS, precision=0, elem_id="extend-number"
        )
    corpus = gr.Textbox(
        label="Text", lines=8, max_lines=8, elem_id="extend-corpus", placeholder="Documents, a blank line between two"
    )
    add_opener(corpus, MOST_CHARACTERS, ".txt,.md,.rst")
    with gr.Row():
        words = gr.Textbox(
            label="Take these words",
            info="One a line; each becomes one token.",
            lines=3,
            max_lines=8,
            min_width=280,
            elem_id="extend-words",
        )
        struck = gr.Textbox(
            label="Leave these tokens out",
            info="One a line, Ġ for a space; “Strike” below adds one, and takes it back.",
            lines=3,
            max_lines=8,
            min_width=280,
            elem_id="extend-struck",
        )
    base.focus(lambda: gr.update(choices=studio.names), None, base, **QUIET)
    file.focus(lambda: gr.update(choices=_files(studio)), None, file, **QUIET)
    return [base, corpus, file, number, words, struck]


def _read(studio: StudioParts, values: tuple[object, ...]) -> AskedExtension:
    """The form's values, checked."""
    base, corpus, file, number, words, struck = values
    known = [value for _, value in _files(studio)]
    return AskedExtension(
        place=studio.parts.names.place_of(field_values.choice("base", base, studio.names)),
        corpus=field_values.text("text", corpus, MOST_CHARACTERS),
        file_id=field_values.choice("file", file, known) or None,
        new_tokens=field_values.whole("new tokens", number, 1, MOST_TOKENS),
        words=field_values.text("words", words, MOST_LINES),
        left_out=field_values.text("leave out", struck, MOST_LINES),
    )


def _watched(studio: StudioParts, job_id: object, *, cancel: bool = False) -> list[object]:
    """How far a job is, whether to look again, whether it can be cancelled."""
    jobs = studio.parts.jobs
    known = field_values.choice("extension", job_id, [value for _, value in _jobs(studio)])
    job = jobs.cancel(known) if cancel else jobs.get(known)
    goes_on = job.state not in ENDED
    shown = extension_as_html(job, jobs, can_download=not studio.parts.keys.all())
    return [inert(shown), gr.Timer(SECONDS_BETWEEN_LOOKS, active=goes_on), gr.update(interactive=goes_on)]


def _files(studio: StudioParts) -> list[tuple[str, str]]:
    """The texts that can be learned from."""
    stored = [(f"{file.name}, {file.bytes:,} bytes ({file.id[-6:]})", file.id) for file in texts_in(studio.parts.files)]
    return [("The text below", PASTED), *stored]


def _jobs(studio: StudioParts) -> list[tuple[str, str]]:
    """The extensions of the queue, the newest first."""
    found = studio.parts.jobs.list(kind="extend")
    return [(f"{job.details.get('model', 'a model')}, {_added(job)} ({job.id})", job.id) for job in found]


def _added(job: Job) -> str:
    count = job.settings.get("new_tokens")
    return f"{count:,} new tokens" if isinstance(count, int) else "new tokens"
