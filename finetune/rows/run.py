"""The training of new rows from its settings to its report: what happens, in order."""

import dataclasses
from contextlib import nullcontext
from functools import partial
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from configs import InputError
from finetune.chat.graft_format import CONTROL_TOKENS, GraftFormat
from finetune.conversations.splits import read_conversation_splits
from finetune.engine.engine import start_engine
from finetune.export.base_on_disk import config_hash
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.rows.base_reading import Parts, read_parts
from finetune.rows.dataset import RowDataset, conversation_dataset, read_texts, text_dataset
from finetune.rows.extended_base import ExtendedBase, read_extended_base
from finetune.rows.report import finish
from finetune.rows.settings import NewRowsSettings
from finetune.rows.start_probe import MakeStart, Probe, Prober
from finetune.rows.training import HeldOutEvaluation, make_row_optimizer, make_start
from scratch_models.embedded.default import EMBEDDED
from scratch_models.launch.folder_lock import folders_released
from scratch_models.launch.waiting import main_process_first
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.precision import expect_precision
from scratch_models.loop.run_folder import choose_run_folder
from scratch_models.loop.run_record import begins_anew, record_start, start_run
from scratch_models.loop.training import train
from tokenizer_ext.embeddings.tables import new_row_parameters, separate_new_rows
from tokenizer_ext.extension.certificate import WeightHashes, hash_weights, tokenizer_sha256, weights_sha256
from tokenizer_ext.huggingface.hf_model import positions_of
from tokenizer_ext.huggingface.hf_tokenizer import character_counts
from tokenizer_ext.pages.terminal import quiet_libraries


@folders_released()
def train_new_rows(settings: NewRowsSettings) -> None:
    """Reads, loads, separates the new rows, finds their start, trains them, proves what stayed."""
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "new-rows", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator("auto", settings.log_with, run.path)  # the engine sees to the precision
    expect_precision(settings.precision, accelerator.device)
    base, dataset = read_inputs(settings, accelerator)
    model = load_extended(settings, base, accelerator)
    before = hash_weights(model, base.first_new_id)
    base.check_weights(before)
    parts = read_parts(base.tokenizer, base.first_new_id)
    separate_new_rows(model, base.first_new_id, base.new_tokens)
    engine = start_engine(model, settings, accelerator, run=run)
    make_optimizer = partial(
        make_row_optimizer, model, settings.learning_rate, settings.output_learning_rate, settings.weight_decay
    )
    optimizer = make_optimizer()
    evaluation = HeldOutEvaluation(SupervisedLoss(model, engine), dataset.held_out, accelerator)
    if settings.dry_run:
        accelerator.print(dry_run(settings, model, dataset))
        return
    probe = None
    if settings.probe and begins_anew(run, settings):  # a run that is resumed has its rows in the checkpoint
        of_start = plan_starts(model, base, parts)
        steps, seeds = settings.probe_steps, settings.probe_seeds
        work = model, engine, dataset, parts, of_start, make_optimizer, settings, accelerator
        probe = Prober(*work, steps=steps, seeds=seeds, distillation_steps=steps).run()
        accelerator.print(probe.table())
    facts = {**make_facts(dataset, before, base, probe), **config_hash(model), **engine.facts()}
    accelerator.print(dataset.describe())
    run = start_run(run, settings, accelerator, facts, model)
    record_start(evaluation, run, settings, accelerator)
    batches = dataset.make_batches(settings.seed, packed=engine.packs)
    train(evaluation.loss_model, batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=evaluation)
    engine.release()
    if accelerator.is_main_process:
        epochs = dataset.epochs_per_step * run.read_metrics()[-1]["step"]
        finish(model, base, dataset, parts, before, run, accelerator, epochs)
    accelerator.end_training()


def read_inputs(settings: NewRowsSettings, accelerator: Accelerator) -> tuple[ExtendedBase, RowDataset]:
    """The base, of a folder without its weights yet, and what its rows learn from."""
    reads_embedded = EMBEDDED in (settings.base, settings.data) or (settings.corpus or settings.data) is None
    # The main process fills the cache of the embedded corpus for the others.
    with main_process_first(accelerator) if reads_embedded else nullcontext():
        control_tokens = () if settings.data is None else CONTROL_TOKENS
        base = read_extended_base(settings.base, settings.first_new_id, control_tokens)
        of_kind = text_of if settings.data is None else conversations_of
        return base, of_kind(settings, base)


def text_of(settings: NewRowsSettings, base: ExtendedBase) -> RowDataset:
    """The blocks of the corpus."""
    return text_dataset(
        read_texts(settings.corpus),
        base.tokenizer,
        block_size=settings.block_size,
        blocks_per_batch=settings.blocks_per_batch,
        evaluation_blocks=settings.evaluation_blocks,
    )


def conversations_of(settings: NewRowsSettings, base: ExtendedBase) -> RowDataset:
    """The conversations of the data, for a tokenizer that holds the chat's control tokens."""
    assert settings.data is not None
    GraftFormat(base.tokenizer)  # refuses a tokenizer without them before the data is read
    return conversation_dataset(
        read_conversation_splits(settings.data, settings.held_out, settings.learn),
        base.tokenizer,
        maximum_tokens=settings.maximum_tokens,
        conversations_per_step=settings.conversations_per_step,
        tokens_per_micro_batch=settings.tokens_per_micro_batch,
        evaluation_conversations=settings.evaluation_conversations,
    )


def load_extended(settings: NewRowsSettings, base: ExtendedBase, accelerator: Accelerator) -> PreTrainedModel:
    """The extended model, on the device of this process.

    Raises:
        InputError: there is none, or it has fewer positions than a row has tokens.

    """
    model = base.load().to(accelerator.device)
    positions = positions_of(model)
    name = "block_size" if settings.data is None else "maximum_tokens"
    if positions is not None and getattr(settings, name) > positions:
        found = getattr(settings, name)
        raise InputError(f"{name}: found {found}, expected at most the model's {positions} positions")
    return model


def plan_starts(model: PreTrainedModel, base: ExtendedBase, parts: Parts) -> MakeStart:
    """How to make each start of the new rows."""
    ids = range(base.first_new_id, base.first_new_id + base.new_tokens)
    sub_tokens = [parts.get(id_, []) for id_ in ids]  # a control token has none
    characters = character_counts(base.tokenizer)
    return lambda start, seed: make_start(model, sub_tokens, start, seed, characters)


def dry_run(settings: NewRowsSettings, model: PreTrainedModel, dataset: RowDataset) -> str:
    """What a run would do: settings, parameters, tokens of an epoch, and the first block or conversation."""
    trained = sum(rows.numel() for rows in new_row_parameters(model).values())
    parameters = sum(parameter.numel() for parameter in model.parameters()) - trained  # these stand in the tables too
    return "\n".join(
        [
            *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
            f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
            dataset.describe(),
            dataset.first_example,
        ]
    )


def make_facts(dataset: RowDataset, before: WeightHashes, base: ExtendedBase, probe: Probe | None) -> dict[str, Any]:
    """What the run is made of, as hashes, and what the probe found."""
    return {
        "data_sha256": dataset.sha256,
        "base_sha256": weights_sha256(before),
        "tokenizer_sha256": tokenizer_sha256(base.tokenizer),
        "probe": None if probe is None else probe.facts(),
    }
