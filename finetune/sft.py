"""Turns a base model into an assistant.

    accelerate launch finetune/sft.py
    accelerate launch finetune/sft.py --base openai-community/gpt2 --data my_chats.jsonl
    accelerate launch finetune/sft.py --data my_chats.jsonl --dry_run    # what it would take
    accelerate launch finetune/sft.py --lora_options.use_dora true --target_modules "[c_attn, c_proj]"
    accelerate launch finetune/sft.py --help

With no argument it takes the embedded base, teaches it the words of a domain that it never read, trains LoRA and the
rows of the new tokens on questions about that domain, and shows base and assistant side by side. It leaves `run.json`,
`metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder under `runs/`.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.adapters import Lora
from finetune.conversation_sets import EMBEDDED, ConversationSets, read_conversation_sets, spread
from finetune.conversations import Conversation
from finetune.estimate import (
    Asking,
    Estimate,
    estimate_asking,
    estimate_training,
    evaluations_of,
    peak_device_bytes,
    peak_memory_bytes,
)
from finetune.evaluation import Answered, Interview, answer, ask_in_chat, ask_plainly, choose_askable, plain_ways
from finetune.fingerprints import tokenizer_sha256, weights_sha256
from finetune.global_batch import check_global_batch
from finetune.learning_material import LearningMaterial, first_example, prepare_material
from finetune.monitor import HeldOutMonitor
from finetune.outcome import finish, in_favour, make_report
from finetune.subject import Subject, make_optimizer, make_subject
from finetune.ways import ChatWay
from scratch_models.devices import make_accelerator
from scratch_models.embedded_base import EMBEDDED_BASE
from scratch_models.loop_settings import LoopSettings
from scratch_models.run_folder import choose_run_folder
from scratch_models.training import record_start, start_run, train
from tokenizer_ext.corpus_files import read_documents
from tokenizer_ext.extension_report import describe as describe_extension
from tokenizer_ext.figures import require_plots
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.terminal import quiet_libraries

ROWS_AT_ONCE = 32
"""Questions that `generate_ids` answers at once."""


@dataclass(frozen=True, kw_only=True)
class SftSettings(LoopSettings):
    """Supervised fine-tuning. The defaults make the demo: embedded base, embedded conversations, LoRA and new rows."""

    base: str = EMBEDDED
    """Model to start from: `embedded`, a Hugging Face folder, or a Hub name."""
    data: str = EMBEDDED
    """Conversations: `embedded`, a .jsonl or .json file, or a Hub name."""
    method: Literal["lora", "full"] = "lora"
    """What trains: LoRA and the rows of new tokens, or every weight."""
    corpus: str | None = None
    """Text file that new tokens are learned from; with the embedded data, the documents of its domain."""
    new_tokens: int = 500
    """Tokens to learn from the corpus; none where there is no corpus."""
    lora_rank: int = 32
    """Rank of the adapter's matrices."""
    lora_alpha: float = 64.0
    """Scale of the adapter: it adds alpha / rank times its product."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs dropped in training."""
    lora_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of peft's LoraConfig, as in `--lora_options.use_dora true`: use_rslora, init_lora_weights, ..."""
    target_modules: str | list[str] | None = None
    """Layers that get LoRA: ends of their names or a regular expression; by default all linear ones in the blocks."""
    new_rows_learning_rate: float | None = None
    """Peak learning rate of the rows of new tokens; by default that of the rest."""
    conversations_per_step: int = 32
    """Conversations that one step learns from, over all processes."""
    accumulation_steps: int | None = None
    """Micro-batches that a process cuts its share of a step into; by default as few as the next setting allows."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process."""
    maximum_tokens: int = 512
    """Longest conversation in tokens; longer ones are left out and counted."""
    evaluation_conversations: int = 100
    """Held-out conversations that evaluations read and are answered at the end."""
    evaluation_replies: int = 16
    """Of them, those answered at every evaluation too, for the share of replies that end; two are shown."""
    reply_tokens: int = 96
    """Longest reply in tokens when the models are asked."""
    max_steps: int = 320
    """Optimizer steps."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("lora_rank", "conversations_per_step", "tokens_per_micro_batch", "maximum_tokens")
        for name in (*counts, "evaluation_conversations", "reply_tokens"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        self.expect("new_tokens", self.new_tokens >= 0, "0 or more")
        self.expect("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more and below 1")
        self.expect("lora_alpha", 0 < self.lora_alpha < math.inf, "a finite number above 0")
        rate = self.new_rows_learning_rate
        self.expect("new_rows_learning_rate", rate is None or 0 < rate < math.inf, "a finite number above 0")
        self.expect("evaluation_replies", self.evaluation_replies >= 0, "0 or more")
        accumulation = self.accumulation_steps
        self.expect("accumulation_steps", accumulation is None or accumulation >= 1, "at least 1")
        if self.method == "full":
            self.refuse_adapters()

    def refuse_adapters(self) -> None:
        """Refuses what only an adapter can have."""
        if self.new_rows_learning_rate is not None:
            raise InputError("new_rows_learning_rate: with --method full every row has the learning rate of the rest")
        for name in ("lora_options", "target_modules"):
            if getattr(self, name):
                raise InputError(f"{name}: with --method full there is no adapter: leave it out, or use --method lora")


def main(settings: SftSettings) -> None:
    """Reads, extends, attaches, asks the base, trains, asks the assistant, saves, reports."""
    started = time.perf_counter()
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "sft", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator(settings.precision)
    check_global_batch(settings.conversations_per_step, settings.accumulation_steps, accelerator.num_processes)
    torch.manual_seed(settings.seed)
    sets = read_sets(settings.data, accelerator)
    model, tokenizer = load_base(settings.base, accelerator)
    subject = prepare_subject(settings, model, tokenizer, sets)
    material = read_material(settings, subject, sets)
    asked = choose_asked(settings, subject, tokenizer, sets.held_out)
    if settings.dry_run:
        accelerator.print(describe_plan(settings, subject, material))
        accelerator.print(estimate_run(settings, subject, material, asked, accelerator, started).describe())
        return
    accelerator.print(describe_extension(subject.extended.certificate), material.describe(), sep="\n")
    run = start_run(run, settings, accelerator, make_facts(subject, tokenizer, sets))
    base = ask_base(settings, asked, accelerator)
    monitor = make_monitor(settings, subject, material, in_favour(base), accelerator)
    if not settings.resume:
        record_start(monitor, run, accelerator)
    optimizer = optimizer_of(settings, subject)
    train(
        monitor.loss_model, material.batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=monitor
    )
    if accelerator.is_main_process:
        assistant = ask_in_chat(subject.model, subject.tokenizer, asked, settings.reply_tokens)
        title = f"{run.path.name}: an assistant made from {settings.base}"
        report = make_report(title, describe_run(settings, subject, material), run, base, assistant)
        finish(report, settings.base, subject, run)
    accelerator.end_training()


def read_sets(data: str, accelerator: Accelerator) -> ConversationSets:
    """The conversations; embedded ones are read by the main process first, which fills the cache for the others."""
    if data == EMBEDDED:
        with accelerator.main_process_first():
            return read_conversation_sets(data)
    return read_conversation_sets(data)


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
    lora = Lora(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        options=settings.lora_options,
        target_modules=settings.target_modules,
    )
    return make_subject(
        model, tokenizer, documents, new_tokens=settings.new_tokens, lora=lora if settings.method == "lora" else None
    )


def read_material(settings: SftSettings, subject: Subject, sets: ConversationSets) -> LearningMaterial:
    """The conversations as ids."""
    positions = getattr(subject.model.config.get_text_config(), "max_position_embeddings", None)
    return prepare_material(
        subject.tokenizer,
        sets,
        maximum_tokens=min(settings.maximum_tokens, positions or settings.maximum_tokens),
        held_out_conversations=settings.evaluation_conversations,
        conversations_per_step=settings.conversations_per_step,
        tokens_per_micro_batch=settings.tokens_per_micro_batch,
        seed=settings.seed,
    )


def choose_asked(
    settings: SftSettings, subject: Subject, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[Conversation]
) -> list[Conversation]:
    """The held-out conversations that base and assistant are asked: those that fit in every way."""
    ways = [*plain_ways(tokenizer).values(), ChatWay(subject.tokenizer)]
    return choose_askable(held_out, settings.evaluation_conversations, [(subject.model, way) for way in ways])


def describe_plan(settings: SftSettings, subject: Subject, material: LearningMaterial) -> str:
    """What a run would do: settings, parameters, tokens of an epoch, and the first example with its mask."""
    parameters, trained = subject.count_parameters()
    return "\n".join(
        [
            *(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()),
            describe_extension(subject.extended.certificate),
            f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
            material.describe(),
            "first example, with what is learned marked:",
            first_example(material, subject.tokenizer, colour=sys.stdout.isatty()),
        ]
    )


def estimate_run(
    settings: SftSettings,
    subject: Subject,
    material: LearningMaterial,
    asked: Sequence[Conversation],
    accelerator: Accelerator,
    started: float,
) -> Estimate:
    """What the run would take: each part of `main` is done a little, in its order; `started` is when it began."""
    seconds = {"reading and extending": time.perf_counter() - started}
    limit, at_once = settings.reply_tokens, spread(asked, ROWS_AT_ONCE)
    batches = len(asked) / len(at_once)
    # Once trained, an assistant's replies are about as long as those that it learned from.
    usual = min(limit, max(sum(one.supervised) for one in material.held_out))
    if accelerator.is_main_process:
        base, its_tokenizer = load_base(settings.base, accelerator)
        asking = Asking(lambda tokens: ask_plainly(base, its_tokenizer, at_once, tokens), batches, limit)
        seconds["asking the base"] = estimate_asking(asking)
    monitor = make_monitor(settings, subject, material, [], accelerator)
    optimizer = optimizer_of(settings, subject)
    seconds["training"] = estimate_training(monitor.loss_model, material.batches, optimizer, settings, accelerator)
    times = evaluations_of(settings)
    start = time.perf_counter()
    monitor.held_out()
    seconds["evaluations"] = (times + 1) * (time.perf_counter() - start)
    if accelerator.is_main_process:
        way, watched = ChatWay(subject.tokenizer), spread(asked, settings.evaluation_replies)
        asking = Asking(lambda tokens: answer(subject.model, way, watched, tokens), times + limit / usual, usual)
        seconds["evaluations"] += estimate_asking(asking) if watched else 0.0
        asking = Asking(lambda tokens: ask_in_chat(subject.model, subject.tokenizer, at_once, tokens), batches, usual)
        seconds["asking the assistant"] = estimate_asking(asking)
    return Estimate(seconds, peak_memory_bytes(), peak_device_bytes(accelerator))


def make_monitor(
    settings: SftSettings,
    subject: Subject,
    material: LearningMaterial,
    base_answered: Sequence[Answered],
    accelerator: Accelerator,
) -> HeldOutMonitor:
    """What is evaluated while the subject trains; it holds the model with its loss."""
    replies = settings.evaluation_replies
    return HeldOutMonitor(subject, material, base_answered, accelerator, settings.reply_tokens, replies)


def optimizer_of(settings: SftSettings, subject: Subject) -> Optimizer:
    """AdamW on what trains of the subject."""
    rate = settings.learning_rate
    return make_optimizer(subject, rate, settings.new_rows_learning_rate or rate, settings.weight_decay)


def make_facts(subject: Subject, tokenizer: PreTrainedTokenizerFast, sets: ConversationSets) -> dict[str, Any]:
    """What the run is made of, as hashes, and what the extension changed."""
    return {
        "data_sha256": sets.sha256(),
        "base_sha256": weights_sha256(subject.extended.certificate.weights_before),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "extension": dataclasses.asdict(subject.extended.certificate),
    }


def ask_base(settings: SftSettings, asked: Sequence[Conversation], accelerator: Accelerator) -> dict[str, Interview]:
    """The base's replies in every plain-text way, in the main process; the others get none."""
    if not accelerator.is_main_process:
        return {}
    model, tokenizer = load_base(settings.base, accelerator)  # anew: the subject's tables have grown
    print(f"Asking the base {len(asked)} held-out questions in {len(plain_ways(tokenizer))} plain-text ways …")
    return ask_plainly(model, tokenizer, asked, settings.reply_tokens)


def describe_run(settings: SftSettings, subject: Subject, material: LearningMaterial) -> dict[str, str]:
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
        "steps": f"{settings.max_steps:,}",
        "full settings, versions and hashes": "run.json",
    }


if __name__ == "__main__":
    run_entry(main, SftSettings)
