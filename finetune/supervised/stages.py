"""The parts of supervised fine-tuning, in their order: each takes the settings and what the parts before it made."""

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from accelerate import Accelerator
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from finetune.chat.annotations import refuse_unusable_annotations
from finetune.chat.dataset import LearningMaterial, prepare_material
from finetune.chat.token_cache import default_token_cache
from finetune.conversations.formats import Conversation
from finetune.conversations.splits import ConversationSets, read_conversation_sets
from finetune.engine.engine import Computing, describe_engine
from finetune.evaluation.scoring import Answered, Interview, ask_in_chat, base_ways, choose_askable, interview_base
from finetune.lora.trainable_model import Subject, make_optimizer, make_subject
from finetune.replies.prompts import ChatWay
from finetune.supervised.monitor import HeldOutMonitor
from finetune.supervised.settings import SftSettings
from scratch_models.embedded_default import EMBEDDED, EMBEDDED_BASE
from scratch_models.loop.run_folder import RunFolder
from tokenizer_ext.extension.certificate import tokenizer_sha256, weights_sha256
from tokenizer_ext.extension.corpus_files import read_documents
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer


def read_sets(settings: SftSettings, accelerator: Accelerator) -> ConversationSets:
    """The conversations; embedded ones are read by the main process first, which fills the cache for the others."""
    with accelerator.main_process_first() if settings.data == EMBEDDED else nullcontext():
        sets = read_conversation_sets(settings.data)
    if settings.calculator:
        refuse_unusable_annotations([*sets.training, *sets.held_out])
    return sets


def load_base(base: str, accelerator: Accelerator) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The base and its tokenizer, on the device of this process."""
    folder = str(EMBEDDED_BASE) if base == EMBEDDED else base
    tokenizer = load_tokenizer(folder)
    return load_model(folder).to(accelerator.device), tokenizer


def prepare_subject(
    settings: SftSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sets: ConversationSets
) -> Subject:
    """The base with its new tokens, learned from the corpus or the domain of the data, and what trains of it."""
    documents = sets.corpus if settings.corpus is None else read_documents(settings.corpus)
    return make_subject(model, tokenizer, documents, new_tokens=settings.new_tokens, lora=settings.lora)


def read_material(
    settings: SftSettings, subject: Subject, sets: ConversationSets, accelerator: Accelerator
) -> LearningMaterial:
    """The conversations as ids, which the main process leaves in a cache for the others and for the next run."""
    positions = getattr(subject.model.config.get_text_config(), "max_position_embeddings", None)
    with accelerator.main_process_first():
        return prepare_material(
            subject.tokenizer,
            sets,
            maximum_tokens=min(settings.maximum_tokens, positions or settings.maximum_tokens),
            held_out_conversations=settings.evaluation_conversations,
            conversations_per_step=settings.conversations_per_step,
            tokens_per_micro_batch=settings.tokens_per_micro_batch,
            seed=settings.seed,
            packed=settings.packing == "always" or (settings.packing == "auto" and accelerator.device.type == "cuda"),
            accumulation_steps=settings.accumulation_steps,
            calculator=settings.calculator,
            cache=default_token_cache(),
        )


def choose_asked(
    settings: SftSettings, subject: Subject, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[Conversation]
) -> list[Conversation]:
    """The held-out conversations that base and assistant are asked: those that fit in every way."""
    ways = [*base_ways(tokenizer).values(), ChatWay(subject.tokenizer, calculator=settings.calculator)]
    return choose_askable(held_out, settings.evaluation_conversations, [(subject.model, way) for way in ways])


def make_facts(
    subject: Subject,
    tokenizer: PreTrainedTokenizerFast,
    sets: ConversationSets,
    computing: Computing,
) -> dict[str, Any]:
    """What the run is made of, as hashes, what the extension changed, and how the run computes."""
    return {
        "data_sha256": sets.sha256(),
        "base_sha256": weights_sha256(subject.extended.certificate.weights_before),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "extension": dataclasses.asdict(subject.extended.certificate),
        **computing.facts(),
    }


def ask_base(settings: SftSettings, asked: Sequence[Conversation], accelerator: Accelerator) -> dict[str, Interview]:
    """The base's replies in every way that it may understand, in the main process; the others get none."""
    if not accelerator.is_main_process:
        return {}
    model, tokenizer = load_base(settings.base, accelerator)  # anew: the subject's tables have grown
    print(f"Asking the base {len(asked)} held-out questions in {len(base_ways(tokenizer))} ways …")
    return ask_in_every_way(settings, model, tokenizer, asked, settings.reply_tokens)


def ask_in_every_way(
    settings: SftSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Conversation],
    tokens: int,
) -> dict[str, Interview]:
    """The base's replies of at most so many tokens."""
    return interview_base(model, tokenizer, asked, tokens, calculator=settings.calculator)


def make_monitor(
    settings: SftSettings,
    subject: Subject,
    material: LearningMaterial,
    base_answered: Sequence[Answered],
    accelerator: Accelerator,
) -> HeldOutMonitor:
    """What is evaluated while the subject trains; it holds the model with its loss."""
    return HeldOutMonitor(
        subject,
        material,
        base_answered,
        accelerator,
        settings.reply_tokens,
        replies=settings.evaluation_replies,
        calculator=settings.calculator,
    )


def optimizer_of(settings: SftSettings, subject: Subject) -> Optimizer:
    """AdamW on what trains of the subject."""
    rate = settings.learning_rate
    return make_optimizer(subject, rate, settings.new_rows_learning_rate or rate, settings.weight_decay)


def ask_assistant(settings: SftSettings, subject: Subject, asked: Sequence[Conversation], tokens: int) -> Interview:
    """The assistant's replies of at most so many tokens."""
    return ask_in_chat(subject.model, subject.tokenizer, asked, tokens, calculator=settings.calculator)


def describe_run(
    settings: SftSettings, subject: Subject, material: LearningMaterial, computing: Computing, run: RunFolder
) -> dict[str, str]:
    """What the report says that the run was."""
    parameters, trained = subject.count_parameters()
    certificate = subject.extended.certificate
    return {
        "base": settings.base,
        "data": settings.data,
        "method": settings.method,
        "parameters": f"{parameters:,}, of which {trained:,} were trained",
        "new tokens": f"{certificate.new_tokens} learned, {certificate.control_tokens} control tokens",
        "read": material.describe(),
        "steps": f"{run.read_metrics()[-1]['step']:,}",
        "computed": describe_engine(computing.engine),
        "full settings, versions and hashes": "run.json",
    }
