"""The tab that starts runs, shows how far each is, and pauses, goes on with or cancels it."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from apps.running import run_form
from apps.running.run_form import METHODS, MOST_PASTED, component_of, fields_of
from apps.running.run_views import Drawings, details_of, table_of, title_of
from apps.showing.opened_files import add_opener
from apps.showing.refusals import says_errors
from apps.showing.studio_models import HIDDEN
from apps.showing.studio_parts import StudioParts
from configs import InputError
from finetune.service.watched_runs import WatchedRun, watched_runs

SECONDS_BETWEEN_LOOKS = 2.0
LOG_LINES = 60
QUEUED: dict[str, Any] = {**HIDDEN, "preprocess": False}


def build(studio: StudioParts) -> None:
    """Lays out the tab and wires it."""
    table = gr.HTML(table_of([]), elem_id="runs")
    chosen, other, buttons, shown = _one_run()
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    seen = gr.State("")
    outputs = [table, chosen, other, *shown, seen]
    look = _looking(studio)
    tab = gr.context.Context.block
    tab.select(lambda: gr.Timer(active=True), None, timer, queue=False, **HIDDEN)  # nobody looks before
    for trigger in (tab.select, timer.tick, chosen.input, other.input):
        trigger(look, [chosen, other, seen], outputs, queue=False, **HIDDEN)
    for name, button in buttons.items():
        done = button.click(_doing(studio, name), chosen, chosen, **QUEUED)
        done.success(look, [chosen, other, seen], outputs, queue=False, **HIDDEN)
    with gr.Accordion("Start a run", open=False, elem_id="start-run"):
        for method, words in METHODS.items():
            with gr.Tab(f"Fine-tune {words}", elem_id=f"start-{method}"):
                _form(studio, method, chosen)


def _one_run() -> tuple[gr.Dropdown, gr.Dropdown, dict[str, gr.Button], list[gr.components.Component]]:
    with gr.Row():
        chosen = gr.Dropdown([], label="Run", elem_id="run", allow_custom_value=True)
        other = gr.Dropdown([], label="Compare with", elem_id="other-run", allow_custom_value=True)
    with gr.Row():
        buttons = {
            name: gr.Button(words, min_width=90, elem_id=f"{name}-run")
            for name, words in (("pause", "Pause"), ("resume", "Go on"), ("cancel", "Cancel"), ("requeue", "Run again"))
        }
    details = gr.HTML(elem_id="run-details")
    plot = gr.HTML(elem_id="run-plot")
    log = gr.Textbox(label="What it printed last", lines=10, max_lines=18, interactive=False, elem_id="run-log")
    return chosen, other, buttons, [details, plot, log]


def _looking(studio: StudioParts) -> Callable[..., list[Any]]:
    drawings = Drawings()

    def look(chosen: str | None, other: str | None, seen: str) -> list[Any]:
        runs = watched_runs(studio.parts.jobs, studio.parts.names.runs)
        found = {run.name: run for run in runs}
        names = [(title_of(run), run.name) for run in runs]
        one = found.get(chosen or "") or (runs[0] if runs else None)
        table = table_of(runs)
        compared = [run for run in (one, found.get(other or "")) if run is not None]
        log = _log_of(studio, one)
        state = f"{table}{chosen}{other}{log[-200:]}"
        if state == seen:
            return [gr.skip()] * 7
        drawn = drawings.of(compared)
        first = gr.update(choices=names, value=one.name if one else None)
        return [table, first, gr.update(choices=names), details_of(one) if one else "", drawn, log, state]

    return look


def _log_of(studio: StudioParts, run: WatchedRun | None) -> str:
    if run is None:
        return ""
    if run.job is None:
        return "It was started in a terminal, which has what it printed."
    return "\n".join(studio.parts.jobs.log(run.name, LOG_LINES))


def _doing(studio: StudioParts, what: str) -> Callable[[object], str]:
    @says_errors
    def do(chosen: object) -> str:
        if not isinstance(chosen, str) or not chosen:
            raise InputError("run: none is chosen, expected one of the list")
        job = getattr(studio.parts.jobs, what)(chosen)
        return str(job.id)

    return do


def _form(studio: StudioParts, method: str, chosen: gr.Dropdown) -> None:
    form = _fields(studio, method)
    with gr.Row():
        rehearse = gr.Button("Dry run: time, memory, first example", elem_id=f"{method}-dry")
        start = gr.Button("Start", variant="primary", elem_id=f"{method}-start")

    def starting(*, dry_run: bool) -> Callable[..., Any]:
        @says_errors
        def begin(*values: object) -> Any:
            job = run_form.start(studio, run_form.read_form(studio, method, values), dry_run=dry_run)
            gr.Info(f"Queued: {job}")
            return gr.update(value=job, choices=[job])

        return begin

    def known() -> list[Any]:
        return [gr.update(choices=studio.names), gr.update(choices=_files(studio, method))]

    rehearse.click(starting(dry_run=True), form, chosen, **QUEUED)
    start.click(starting(dry_run=False), form, chosen, **QUEUED)
    gr.context.Context.root_block.load(known, None, form[:2], queue=False, **HIDDEN)


def _fields(studio: StudioParts, method: str) -> list[gr.components.Component]:
    """What `run_form.read_form` reads, in its order."""
    words = "Data: a file that was uploaded through the API"
    files = gr.Dropdown(_files(studio, method), value=None, label=words, elem_id=f"{method}-file")
    pasted = gr.Textbox(
        label="Or lines of JSON, pasted",
        placeholder='{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
        lines=3,
        max_lines=10,
        elem_id=f"{method}-pasted",
    )
    add_opener(pasted, MOST_PASTED)
    with gr.Row():
        model = gr.Dropdown(studio.names, value=studio.base, label="Model to start from", elem_id=f"{method}-model")
        name = gr.Textbox(label="Name of the run", max_lines=1, elem_id=f"{method}-name")
    all_settings = gr.Accordion(f"All settings ({len(fields_of(method))})", open=False, elem_id=f"{method}-settings")
    with all_settings, gr.Row(elem_classes="settings"):
        settings = [component_of(field, f"{method}-{field.name}") for field in fields_of(method)]
    return [model, files, pasted, name, *settings]


def _files(studio: StudioParts, method: str) -> list[tuple[str, str]]:
    kind = {"supervised": "conversations", "dpo": "pairs"}[method]
    found = [file for file in studio.parts.files.all() if file.kind == kind]
    return [(f"{file.name} · {file.records:,} {kind}", file.id) for file in found]
