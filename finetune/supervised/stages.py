"""The parts of supervised fine-tuning, in their order: each takes the settings and what the parts before it made."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from accelerate import Accelerator
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.annotations import refuse_unusable_annotations
from finetune.chat.dataset import SupervisedDataset, prepare_dataset
from finetune.chat.token_cache import default_token_cache
from finetune.conversations.formats import Conversation
from finetune.conversations.splits import ConversationSplits, read_conversation_splits
from finetune.engine.engine import Engine
from finetune.evaluation.scoring import (
    Answered,
    Evaluation,
    ask_in_chat,
    base_prompt_formats,
    choose_askable,
    evaluate_base,
)
from finetune.export.saved_model import load_start
from finetune.lora.trainable_model import TrainableModel, make_optimizer, make_trainable_model
from finetune.replies.prompts import ChatPromptFormat
from finetune.supervised.monitor import HeldOutMonitor
from finetune.supervised.settings import SftSettings
from scratch_models.embedded_default import EMBEDDED
from scratch_models.loop.best_checkpoint import describe_steps
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.extension.certificate import tokenizer_sha256, weights_sha256
from tokenizer_ext.extension.corpus_files import read_documents
from tokenizer_ext.huggingface.hf_model import positions_of


def read_sets(settings: SftSettings, accelerator: Accelerator) -> ConversationSplits:
    """The conversations; embedded ones are read by the main process first, which fills the cache for the others."""
    with accelerator.main_process_first() if settings.data == EMBEDDED else nullcontext():
        splits = read_conversation_splits(settings.data)
    if settings.calculator:
        refuse_unusable_annotations([*splits.training, *splits.held_out])
    return splits


def prepare_trainable_model(
    settings: SftSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, splits: ConversationSplits
) -> TrainableModel:
    """The base with its new tokens, learned from the corpus or the domain of the data, and what trains of it."""
    documents = splits.corpus if settings.corpus is None else read_documents(settings.corpus)
    return make_trainable_model(model, tokenizer, documents, new_tokens=settings.new_tokens, lora=settings.lora)


def read_dataset(
    settings: SftSettings,
    trainable: TrainableModel,
    engine: Engine,
    splits: ConversationSplits,
    accelerator: Accelerator,
) -> SupervisedDataset:
    """The conversations as ids, which the main process leaves in a cache for the others and for the next run."""
    positions = positions_of(trainable.model)
    with accelerator.main_process_first():
        return prepare_dataset(
            trainable.tokenizer,
            splits,
            maximum_tokens=min(settings.maximum_tokens, positions or settings.maximum_tokens),
            held_out_conversations=settings.evaluation_conversations,
            conversations_per_step=settings.conversations_per_step,
            tokens_per_micro_batch=settings.tokens_per_micro_batch,
            seed=settings.seed,
            packed=engine.packs,
            accumulation_steps=settings.accumulation_steps,
            calculator=settings.calculator,
            cache=default_token_cache(),
        )


def choose_asked(
    settings: SftSettings,
    trainable: TrainableModel,
    tokenizer: PreTrainedTokenizerFast,
    held_out: Sequence[Conversation],
) -> list[Conversation]:
    """The held-out conversations that base and assistant are asked: those that fit in every prompt format."""
    prompt_formats = [
        *base_prompt_formats(tokenizer).values(),
        ChatPromptFormat(trainable.tokenizer, calculator=settings.calculator),
    ]
    return choose_askable(
        held_out,
        settings.evaluation_conversations,
        [(trainable.model, prompt_format) for prompt_format in prompt_formats],
    )


def make_facts(
    trainable: TrainableModel,
    tokenizer: PreTrainedTokenizerFast,
    splits: ConversationSplits,
    engine: Engine,
) -> dict[str, Any]:
    """What the run is made of, as hashes, what the extension changed, and how the run computes."""
    return {
        "data_sha256": splits.sha256(),
        "base_sha256": weights_sha256(trainable.extended.certificate.weights_before),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "extension": dataclasses.asdict(trainable.extended.certificate),
        **engine.facts(),
    }


def ask_base(settings: SftSettings, asked: Sequence[Conversation], accelerator: Accelerator) -> dict[str, Evaluation]:
    """The base's replies in every prompt format that it may understand, in the main process; the others get none."""
    if not accelerator.is_main_process:
        return {}
    model, tokenizer = load_start(settings.base, accelerator.device)  # anew: the trained model's tables have grown
    print(f"Asking the base {len(asked)} held-out questions in {len(base_prompt_formats(tokenizer))} prompt formats …")
    return ask_in_every_format(settings, model, tokenizer, asked, settings.reply_tokens)


def ask_in_every_format(
    settings: SftSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Conversation],
    tokens: int,
) -> dict[str, Evaluation]:
    """The base's replies of at most so many tokens."""
    return evaluate_base(model, tokenizer, asked, tokens, calculator=settings.calculator)


def make_monitor(
    settings: SftSettings,
    trainable: TrainableModel,
    engine: Engine,
    dataset: SupervisedDataset,
    base_answered: Sequence[Answered],
    accelerator: Accelerator,
) -> HeldOutMonitor:
    """What is evaluated while the model trains; it holds the model with its loss."""
    return HeldOutMonitor(
        trainable,
        dataset,
        base_answered,
        accelerator,
        settings.reply_tokens,
        replies=settings.evaluation_replies,
        calculator=settings.calculator,
        engine=engine,
    )


def optimizer_of(settings: SftSettings, trainable: TrainableModel) -> Optimizer:
    """AdamW on what trains of the model."""
    rate = settings.learning_rate
    return make_optimizer(trainable, rate, settings.new_rows_learning_rate or rate, settings.weight_decay)


def ask_assistant(
    settings: SftSettings, trainable: TrainableModel, asked: Sequence[Conversation], tokens: int
) -> Evaluation:
    """The assistant's replies of at most so many tokens."""
    return ask_in_chat(trainable.model, trainable.tokenizer, asked, tokens, calculator=settings.calculator)


def describe_run(
    settings: SftSettings, trainable: TrainableModel, dataset: SupervisedDataset, engine: Engine, run: RunFolder
) -> dict[str, str]:
    """What the report says that the run was."""
    parameters, trained = trainable.count_parameters()
    certificate = trainable.extended.certificate
    return {
        "base": settings.base,
        "data": settings.data,
        "method": settings.method,
        "parameters": f"{parameters:,}, of which {trained:,} were trained",
        "new tokens": f"{certificate.new_tokens} learned, {certificate.control_tokens} control tokens",
        "read": dataset.describe(),
        "steps": describe_steps(run),
        "computed": engine.describe(),
        "full settings, versions and hashes": "run.json",
    }
