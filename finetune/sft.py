"""Turns a base model into an assistant.

    accelerate launch finetune/sft.py
    accelerate launch finetune/sft.py --base openai-community/gpt2 --data my_chats.jsonl
    accelerate launch finetune/sft.py --help

With no argument it takes the embedded base, teaches it the words of a domain that it never read, trains LoRA and the
rows of the new tokens on questions about that domain, and shows base and assistant side by side. It leaves `run.json`,
`metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder under `runs/`.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.adapters import Lora
from finetune.conversation_sets import EMBEDDED, ConversationSets, read_conversation_sets
from finetune.conversations import Conversation
from finetune.evaluation import (
    Answered,
    Interview,
    ask_in_chat,
    ask_plainly,
    best_scores,
    choose_askable,
    plain_ways,
)
from finetune.export import save_assistant
from finetune.fingerprints import tokenizer_sha256, weights_sha256
from finetune.learning_material import LearningMaterial, first_example, prepare_material
from finetune.model_card import write_model_card
from finetune.monitor import HeldOutMonitor
from finetune.report import Report, write_report
from finetune.samples import pair_samples, show_samples
from finetune.score_table import to_text
from finetune.subject import Subject, make_optimizer, make_subject
from finetune.ways import ChatWay
from scratch_models.devices import make_accelerator
from scratch_models.embedded_base import EMBEDDED_BASE
from scratch_models.loop_settings import LoopSettings
from scratch_models.run_folder import RunFolder, choose_run_folder
from scratch_models.training import record_start, start_run, train
from tokenizer_ext.certificate import CERTIFICATE, read_certificate
from tokenizer_ext.corpus_files import read_documents
from tokenizer_ext.extension_report import describe as describe_extension
from tokenizer_ext.extension_report import verdict, weights_line
from tokenizer_ext.figures import require_plots
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.terminal import quiet_libraries


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
    new_rows_learning_rate: float | None = None
    """Peak learning rate of the rows of new tokens; by default that of the rest."""
    conversations_per_step: int = 32
    """Conversations that one step learns from, over all processes."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process."""
    maximum_tokens: int = 512
    """Longest conversation in tokens; longer ones are left out and counted."""
    evaluation_conversations: int = 100
    """Held-out conversations that evaluations read and are answered at the end."""
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
        if self.method == "full" and rate is not None:
            raise InputError("new_rows_learning_rate: with --method full every row has the learning rate of the rest")


def main(settings: SftSettings) -> None:
    """Reads, extends, attaches, asks the base, trains, asks the assistant, saves, reports."""
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "sft", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator(settings.precision)
    torch.manual_seed(settings.seed)
    sets = read_sets(settings.data, accelerator)
    model, tokenizer = load_base(settings.base, accelerator)
    subject = prepare_subject(settings, model, tokenizer, sets)
    material = read_material(settings, subject, sets)
    asked = choose_asked(settings, subject, tokenizer, sets.held_out)
    if settings.dry_run:
        accelerator.print(dry_run(settings, subject, material))
        return
    accelerator.print(describe_extension(subject.extended.certificate), material.describe(), sep="\n")
    run = start_run(run, settings, accelerator, make_facts(subject, tokenizer, sets))
    base = ask_base(settings, asked, accelerator)
    monitor = HeldOutMonitor(subject, material, in_favour(base), accelerator, settings.reply_tokens)
    if not settings.resume:
        record_start(monitor, run, accelerator)
    rate = settings.learning_rate
    optimizer = make_optimizer(subject, rate, settings.new_rows_learning_rate or rate, settings.weight_decay)
    train(
        monitor.loss_model, material.batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=monitor
    )
    if accelerator.is_main_process:
        assistant = ask_in_chat(subject.model, subject.tokenizer, asked, settings.reply_tokens)
        finish(make_report(settings, subject, material, run, base, assistant), settings, subject, run)
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
    lora = Lora(rank=settings.lora_rank, alpha=settings.lora_alpha, dropout=settings.lora_dropout)
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


def dry_run(settings: SftSettings, subject: Subject, material: LearningMaterial) -> str:
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


def in_favour(base: dict[str, Interview]) -> list[Answered]:
    """The base's replies in the way with the fewest bits per byte."""
    return min(base.values(), key=lambda one: one.scores.bits_per_byte).answered if base else []


def make_report(
    settings: SftSettings,
    subject: Subject,
    material: LearningMaterial,
    run: RunFolder,
    base: dict[str, Interview],
    assistant: Interview,
) -> Report:
    """What the run shows of itself."""
    parameters, trained = subject.count_parameters()
    certificate = subject.extended.certificate
    return Report(
        title=f"{run.path.name}: an assistant made from {settings.base}",
        base=best_scores([one.scores for one in base.values()]),
        base_by_prompt={name: one.scores for name, one in base.items()},
        assistant=assistant.scores,
        samples=pair_samples(in_favour(base), assistant.answered),
        facts={
            "base": settings.base,
            "data": settings.data,
            "method": settings.method,
            "parameters": f"{parameters:,}, of which {trained:,} were trained",
            "new tokens": f"{certificate.new_tokens} learned, {certificate.control_tokens} control tokens",
            "read": material.describe(),
            "steps": f"{settings.max_steps:,}",
            "full settings, versions and hashes": "run.json",
        },
        metrics=tuple(run.read_metrics()),
    )


def finish(report: Report, settings: SftSettings, subject: Subject, run: RunFolder) -> None:
    """Saves the assistant and the report, and prints three questions with both answers and the table."""
    save_assistant(subject.model, subject.adapted, subject.tokenizer, run.final, subject.extended)
    write_model_card(report, settings.base, run.final)
    write_report(report, run.path)
    print(show_samples(report.samples), to_text(report.base, report.assistant), sep="\n\n")
    print(f"\n{describe_training(run.final)}")
    print(f"Saved: {run.final}; report: {run.path / 'report.html'}\nAsk both yourself: make app")


def describe_training(final: Path) -> str:
    """What the certificate that was saved says of the old weights after training."""
    folder = final / "base" if (final / "base").is_dir() else final
    certificate = read_certificate(folder)
    assert certificate is not None
    return f"After training: {weights_line(certificate)}; {verdict(certificate)} ({folder / CERTIFICATE})"


if __name__ == "__main__":
    run_entry(main, SftSettings)
