"""The parts of preference tuning, in their order: each takes the settings and what the parts before it made."""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from finetune.chat.annotations import refuse_unusable_annotations
from finetune.chat.chat_format import describe_format
from finetune.chat.choose_format import format_of
from finetune.conversations.formats import Conversation
from finetune.decoding.decoders import is_spread
from finetune.engine.engine import Engine, start_engine
from finetune.evaluation.questions_asked import ask_base_questions, choose_askable
from finetune.evaluation.report import describe_run
from finetune.evaluation.scoring import Evaluation, ways_to_ask
from finetune.export.base_on_disk import config_hash
from finetune.export.saved_model import check_start_held
from finetune.files.weighted_sets import describe_data
from finetune.inspection.before_training import inspect_before_training
from finetune.lora.held_base import held_as_set
from finetune.lora.resolved_settings import choose_maximum_tokens, choose_per_step, describe_course, epochs_of
from finetune.lora.trainable_model import TrainableModel
from finetune.preference.dataset import PreferenceDataset, first_pair, prepare_preferences
from finetune.preference.dpo_loss import Objective, PreferenceLoss
from finetune.preference.pair_splits import PreferenceSplits, read_preference_splits
from finetune.preference.reference import (
    describe_reference,
    pair_log_probabilities,
    read_reference,
    reference_model,
    write_reference,
)
from finetune.preference.settings import DpoSettings
from finetune.preference.start_model import read_original
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import ChatPromptFormat, PromptFormat
from scratch_models.embedded.default import EMBEDDED
from scratch_models.launch.waiting import main_process_first
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.huggingface.hf_model import positions_of


def read_splits(settings: DpoSettings, accelerator: Accelerator) -> PreferenceSplits:
    """The pairs; embedded ones are read by the main process first, which fills the cache for the others.

    Raises:
        InputError: the base cannot be held as is asked, or the pairs cannot be read, or hold arithmetic that the
            calculator would complete otherwise.

    """
    check_start_held(settings.base, held_as_set(settings))
    with main_process_first(accelerator) if settings.data == EMBEDDED else nullcontext():
        splits = read_preference_splits(settings.data, settings.held_out)
    both = [(pair.with_chosen(), pair.with_rejected()) for pair in (*splits.training, *splits.held_out)]
    if settings.calculator:
        refuse_unusable_annotations([reply for replies in both for reply in replies])
    if accelerator.is_main_process:
        for line in inspect_before_training(settings.data, both):
            print(line)
    return splits


def read_dataset(
    settings: DpoSettings, trainable: TrainableModel, engine: Engine, splits: PreferenceSplits, processes: int
) -> PreferenceDataset:
    """The pairs as ids."""
    return prepare_preferences(
        format_of(settings, trainable.tokenizer, trainable.model),
        splits,
        maximum_tokens=choose_maximum_tokens(settings.maximum_tokens, positions_of(trainable.model)),
        held_out_pairs=settings.evaluation_pairs,
        pairs_per_step=settings.pairs_per_step or choose_per_step(len(splits.training), processes),
        tokens_per_micro_batch=engine.tokens_at_once(settings.tokens_per_micro_batch),
        seed=settings.seed,
        packed=engine.packs,
    )


def choose_objective(settings: DpoSettings, trainable: TrainableModel) -> Objective:
    """The loss of a pair."""
    weight = settings.chosen_weight
    if weight is None:
        weight = 1.0 if trainable.extended.certificate.control_tokens else 0.0
    return Objective(kind=settings.loss, beta=settings.beta, chosen_weight=weight)


def choose_prompt_formats(settings: DpoSettings, trainable: TrainableModel) -> dict[str, PromptFormat]:
    """How the reference is asked: in its own chat format, or in plain text where it has none."""
    return ways_to_ask(settings, trainable.extended.plan.base, trainable.model)


def choose_asked(
    settings: DpoSettings,
    trainable: TrainableModel,
    dataset: PreferenceDataset,
    prompt_formats: dict[str, PromptFormat],
) -> list[Conversation]:
    """The held-out prompts that are answered before and after, with the replies that are preferred."""
    conversations = [pair.with_chosen() for pair in dataset.held_out]
    prompts = (*prompt_formats.values(), ChatPromptFormat(dataset.chat))
    models = [LocalModel(trainable.model, prompt_format) for prompt_format in prompts]
    return choose_askable(conversations, settings.evaluation_replies or settings.MOST_QUESTIONS, models)


def describe_plan(
    settings: DpoSettings, trainable: TrainableModel, dataset: PreferenceDataset, engine: Engine
) -> list[str]:
    """What a run does, with every setting and an example where it is only shown."""
    parameters, trained = trainable.count_parameters()
    lines = [
        f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
        f"loss: {choose_objective(settings, trainable).describe()}; {engine.describe()}",
        f"reference: {describe_reference(trainable)}",
        dataset.describe(),
        describe_format(dataset.chat),
        describe_course(settings, dataset.batches, "pairs"),
    ]
    if added := trainable.extended.certificate.control_tokens:
        lines.append(
            f"{settings.base} knows no chat format: {added} control tokens were added and learn with it. Preferences "
            "are usually taught to an assistant: accelerate launch finetune/sft.py makes one, --base takes its run"
        )
    if settings.dry_run:
        lines = [*(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()), *lines]
        lines.append("first pair, with what is compared marked:")
        lines.append(first_pair(dataset, trainable.tokenizer, colour=sys.stdout.isatty()))
    return lines


def make_facts(
    settings: DpoSettings,
    trainable: TrainableModel,
    dataset: PreferenceDataset,
    splits: PreferenceSplits,
    engine: Engine,
) -> dict[str, Any]:
    """What the run is made of, as hashes, where its reference comes from, and how the model computes."""
    return {
        "data_sha256": splits.sha256(),
        "epochs": epochs_of(settings, dataset.batches),
        **trainable.hashes(),
        **config_hash(trainable.model),
        "reference": describe_reference(trainable),
        **engine.facts(),
    }


def ask_reference(
    settings: DpoSettings,
    trainable: TrainableModel,
    engine: Engine,
    dataset: PreferenceDataset,
    prompt_formats: dict[str, PromptFormat],
    asked: Sequence[Conversation],
    run: RunFolder,
    accelerator: Accelerator,
) -> dict[str, Evaluation]:
    """Gives every pair its reference; its replies come back in the main process, and where it is spread in all."""
    splits = (dataset.batches, dataset.held_out_batches)
    kept = read_reference(run.path, [len(batches) for batches in splits]) if settings.resume else None
    read = partial(read_original_alike, settings, engine, accelerator)
    with reference_model(trainable, engine, read) as (model, engine_of_model):
        if kept is None:
            pairs = dataset.batches.read_in(settings.loop.max_steps), range(len(dataset.held_out))
            accelerator.print(f"Asking the reference about {sum(map(len, pairs)):,} pairs …")
            asking = PreferenceLoss(model, Objective(), engine_of_model)  # none has an effect on log-probabilities
            kept = [
                pair_log_probabilities(asking, batches, numbers, accelerator)
                for batches, numbers in zip(splits, pairs, strict=True)
            ]
            if accelerator.is_main_process:
                write_reference(kept, run.path)
        for batches, found in zip(splits, kept, strict=True):
            batches.reference = found
        if not (accelerator.is_main_process or is_spread(model)):
            return {}
        accelerator.print(f"Asking the reference up to {len(asked)} held-out prompts …", flush=True)
        return ask_base_questions(
            model,
            prompt_formats,
            asked,
            settings.reply_tokens,
            number_given=settings.evaluation_replies is not None,
            minutes=settings.evaluation_minutes,
            recorded=run.questions_asked if settings.resume else None,
        )


def read_original_alike(
    settings: DpoSettings, engine: Engine, accelerator: Accelerator
) -> tuple[PreTrainedModel, Engine]:
    """The original, which computes as the model under training does: what they differ by is then what was learned."""
    held_as = held_as_set(settings)  # else a reference that is not rounded would be compared with a base that is
    original = read_original(settings.base, accelerator.device, settings.chat, settings.rope_scaling, held_as)
    return original, start_engine(original, settings, accelerator, precision=engine.precision)


def describe_facts(
    settings: DpoSettings, trainable: TrainableModel, dataset: PreferenceDataset, engine: Engine, run: RunFolder
) -> dict[str, str]:
    """What the report says that the run was."""
    aims = {
        "base": settings.base,
        "data": describe_data(settings.data),
        "method": settings.method,
        "loss": choose_objective(settings, trainable).describe(),
        "reference": describe_reference(trainable),
    }
    chat = describe_format(dataset.chat)
    read = {"chat": chat, "read": dataset.describe(), "trained": describe_course(settings, dataset.batches, "pairs")}
    return describe_run(aims, trainable, read, engine, run)
