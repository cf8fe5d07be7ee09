"""Gist tokens from their settings to the report: what happens, in order."""

import dataclasses
from contextlib import nullcontext
from typing import Any

from accelerate import Accelerator

from finetune.chat.batches import check_global_batch
from finetune.engine.engine import Engine, start_engine
from finetune.export.base_on_disk import config_hash, round_new_rows
from finetune.gisting.figures import measure_gist
from finetune.gisting.gist_loss import GistBatches, GistLoss, make_gist_optimizer
from finetune.gisting.gist_tokens import GistModel, PlainBase, Prompt, add_rows, load_plain_base, read_prompt
from finetune.gisting.monitor import GistMonitor, HeldOut
from finetune.gisting.prompted_replies import Replies
from finetune.gisting.questions import Questions, read_questions
from finetune.gisting.report import GistReport, to_text, write_report
from finetune.gisting.results import DELTA, finish
from finetune.gisting.settings import GistSettings
from finetune.gisting.teacher import ask_teacher, read_replies, reply_row, states_of, taught_rows
from scratch_models.embedded.default import EMBEDDED
from scratch_models.launch.folder_lock import folders_released
from scratch_models.launch.waiting import main_process_first, wait_for_all
from scratch_models.loop.best_checkpoint import describe_steps
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.precision import expect_precision
from scratch_models.loop.run_folder import RECORD, RunFolder, choose_run_folder
from scratch_models.loop.run_record import record_start, start_run
from scratch_models.loop.training import train
from tokenizer_ext.extension.certificate import WeightHashes, hash_weights, tokenizer_sha256, weights_sha256
from tokenizer_ext.huggingface.hf_model import positions_of
from tokenizer_ext.pages.plots import require_plots
from tokenizer_ext.pages.terminal import quiet_libraries


@folders_released()
def train_gist(settings: GistSettings) -> RunFolder | None:
    """Reads, has the base reply, adds the rows, trains them, proves what stayed; None where it is only shown."""
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "gist", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator("auto", settings.log_with, run.path)  # the engine sees to the precision
    expect_precision(settings.precision, accelerator.device)
    check_global_batch(settings.questions_per_step, None, accelerator.num_processes, "questions_per_step")
    prompt, questions = read_inputs(settings, accelerator)
    base = load_plain_base(settings, prompt, accelerator.device)
    questions = questions.fitting(base.form.after_prompt, room_for(settings, base))
    accelerator.print(*describe(settings, base, prompt, questions), sep="\n")
    if settings.dry_run:
        return None
    before = hash_weights(base.model, base.plan.first_new_id)
    run = start_run(run, settings, accelerator, make_facts(base, prompt, questions, before), base.model)
    replies = teach(base, questions, settings, run, accelerator)
    gist = add_rows(base, prompt)
    engine = start_engine(gist.model, settings, accelerator, run=run)
    if accelerator.is_main_process:
        run.note(**engine.facts())
    tokens = engine.tokens_at_once(settings.tokens_per_micro_batch)
    batches, held_out = read_teacher(gist, questions, replies, engine, settings, tokens)
    loss_model = GistLoss(gist, engine).to(accelerator.device)
    accelerator.print(f"{describe_memory(batches, held_out)}; {engine.describe()}")
    monitor = GistMonitor(gist, loss_model, held_out, tokens)
    record_start(monitor, run, settings, accelerator)
    optimizers = [make_gist_optimizer(gist, settings.learning_rate, settings.weight_decay)]
    train(loss_model, batches, optimizers, settings, accelerator=accelerator, run=run, evaluate=monitor)
    if accelerator.is_main_process:
        finish_run(settings, prompt, questions, monitor, before, engine, run)
    wait_for_all(accelerator)
    accelerator.end_training()
    return run


def read_inputs(settings: GistSettings, accelerator: Accelerator) -> tuple[Prompt, Questions]:
    """Prompt and questions; no weight is read yet."""
    prompt = read_prompt(settings)
    # The main process fills the cache of the embedded corpus for the others.
    with main_process_first(accelerator) if settings.data == EMBEDDED else nullcontext():
        return prompt, read_questions(settings)


def room_for(settings: GistSettings, base: PlainBase) -> int | None:
    """The most ids that a question may have with the prompt, so that a whole reply fits behind it."""
    positions = positions_of(base.model)
    return None if positions is None else positions - settings.reply_tokens


def describe(settings: GistSettings, base: PlainBase, prompt: Prompt, questions: Questions) -> list[str]:
    """What a run does; a dry run also shows its settings, and the first question with the gist tokens."""
    first = base.form.after_gist(questions.training[0].messages)
    shown = [
        f"{len(prompt.ids):,} tokens of the prompt become {settings.tokens}, in {base.form.place}",
        questions.describe(),
    ]
    if not settings.dry_run:
        return shown
    trained = settings.tokens * base.model.get_input_embeddings().weight.shape[1]
    parameters = sum(parameter.numel() for parameter in base.model.parameters())
    return [
        *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
        f"parameters: {parameters:,}, all frozen; {trained:,} are added and trained",
        *shown,
        f"first question: {base.plan.tokenizer.decode(first)!r}",
    ]


def describe_memory(batches: GistBatches, held_out: HeldOut) -> str:
    """How much of the base's replies is learned, and the memory that its hidden states take."""
    states = [*batches.taught, *held_out.taught]
    places = sum(map(len, batches.taught))
    return f"{places:,} tokens of replies; the base's hidden states take {sum(one.nbytes for one in states):,} bytes"


def make_facts(base: PlainBase, prompt: Prompt, questions: Questions, before: WeightHashes) -> dict[str, Any]:
    """What the run is made of, as hashes."""
    return {
        "data_sha256": questions.sha256,
        "prompt_sha256": prompt.sha256(),
        "base_sha256": weights_sha256(before),
        "tokenizer_sha256": tokenizer_sha256(base.plan.tokenizer),
        **config_hash(base.model),
    }


def teach(
    base: PlainBase, questions: Questions, settings: GistSettings, run: RunFolder, accelerator: Accelerator
) -> tuple[Replies, Replies]:
    """The base's replies behind the prompt, made by the main process where the run keeps none."""
    if accelerator.is_main_process and read_replies(run.path, questions) is None:
        ask_teacher(base, questions, settings, run.path)
    wait_for_all(accelerator)
    replies = read_replies(run.path, questions)
    assert replies is not None
    return replies


def read_teacher(
    gist: GistModel,
    questions: Questions,
    replies: tuple[Replies, Replies],
    engine: Engine,
    settings: GistSettings,
    tokens: int,
) -> tuple[GistBatches, HeldOut]:
    """What the base makes of its replies behind the prompt, and the same replies behind the gist tokens."""
    sets = zip((questions.training, questions.held_out), replies, strict=True)
    taught = [
        states_of(gist.model, taught_rows(gist.form, some, their), engine, tokens, "the base with the prompt")
        for some, their in sets
    ]
    rows = [
        reply_row(gist.form.after_gist(one.messages), reply)
        for one, reply in zip(questions.training, replies[0], strict=True)
    ]
    batches = GistBatches(rows, taught[0], settings.questions_per_step, tokens, settings.seed, engine)
    return batches, HeldOut(questions.held_out, replies[1], taught[1])


def finish_run(
    settings: GistSettings,
    prompt: Prompt,
    questions: Questions,
    monitor: GistMonitor,
    before: WeightHashes,
    engine: Engine,
    run: RunFolder,
) -> None:
    """Measures the rows as they will be saved, saves them, reports."""
    gist = monitor.gist
    round_new_rows(gist.model)
    figures, samples = measure_gist(monitor, len(prompt.ids), settings.reply_tokens)
    facts = {
        "base": settings.base,
        "gist tokens": f"{', '.join(gist.gist)}, in {gist.form.place}",
        "questions": questions.describe(),
        "steps": describe_steps(run),
        "computed": engine.describe(),
        "old weights unchanged": f"sha256 {weights_sha256(before)}",
        "full settings, versions and hashes": RECORD,
    }
    title = f"{run.path.name}: {settings.base} with {figures.gist_tokens} gist tokens for a prompt"
    report = GistReport(
        title=title,
        prompt=prompt.text,
        figures=figures,
        samples=samples,
        facts=facts,
        metrics=tuple(run.read_metrics()),
    )
    engine.release()
    finish(gist, before, questions.held_out, report, settings.base, run)
    write_report(report, run.path)
    print(to_text(figures))
    print(f"Saved: {run.final}, its new rows alone: {run.path / DELTA}; report: {run.path / 'report.html'}")
