"""Turns a base model into an assistant.

    accelerate launch finetune/sft.py
    accelerate launch finetune/sft.py --base openai-community/gpt2 --data my_chats.jsonl
    accelerate launch finetune/sft.py --help

With no argument it takes the embedded base, teaches it the words of a domain that it never read, trains LoRA and the rows of the
new tokens on questions about that domain, and shows base and assistant side by side. It leaves `run.json`, `metrics.jsonl`,
`checkpoints/`, `final/` and `report.html` in a new folder under `runs/`.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.adapters import Lora
from finetune.conversation_sets import EMBEDDED, ConversationSets, read_conversation_sets
from finetune.conversations import Conversation
from finetune.evaluation import Answered, ChatWay, Interview, PlainWay, ask_plainly, best_scores, fits, interview
from finetune.export import save_assistant
from finetune.learning_material import LearningMaterial, first_example, prepare_material
from finetune.model_card import write_model_card
from finetune.monitor import HeldOutMonitor
from finetune.plain_prompts import PLAIN_PROMPTS
from finetune.report import Report, SampleReplies, require_plots, to_text, write_report
from finetune.subject import Subject, make_optimizer, make_subject
from scratch_models.devices import make_accelerator
from scratch_models.embedded_base import EMBEDDED_BASE
from scratch_models.loop_settings import LoopSettings
from scratch_models.run_folder import RunFolder, choose_run_folder
from scratch_models.training import start_run, train
from tokenizer_ext.extend import describe as describe_extension
from tokenizer_ext.extend import read_documents
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.terminal import quiet_libraries

PRINTED_SAMPLES = 3


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
    evaluation_conversations: int = 200
    """Held-out conversations that evaluations read and are answered at the end."""
    reply_tokens: int = 96
    """Longest reply in tokens when the models are asked."""
    max_steps: int = 300
    """Optimizer steps."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (
            "conversations_per_step",
            "tokens_per_micro_batch",
            "maximum_tokens",
            "evaluation_conversations",
            "reply_tokens",
        )
        for field in counts:
            if getattr(self, field) < 1:
                raise InputError(f"{field}: found {getattr(self, field)}, expected at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise InputError(f"lora_dropout: found {self.lora_dropout}, expected 0 or more and below 1")
        if not self.lora_alpha > 0:
            raise InputError(f"lora_alpha: found {self.lora_alpha}, expected a number above 0")


def main(settings: SftSettings) -> None:
    """Reads, asks the base, extends, attaches, trains, saves, reports."""
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "sft", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator(settings.precision)
    torch.manual_seed(settings.seed)
    with accelerator.main_process_first():  # it fills the cache that the others then read
        sets = read_conversation_sets(settings.data)
    model, tokenizer = load_base(settings.base, accelerator)
    documents = read_domain(settings, sets)
    if settings.dry_run:
        accelerator.print(dry_run(settings, model, tokenizer, documents, sets))
        return
    asked = choose_asked(model, tokenizer, sets.held_out, settings.evaluation_conversations)
    accelerator.print(f"Asking the base {len(asked)} held-out questions in {len(PLAIN_PROMPTS)} plain-text ways …")
    base = ask_plainly(model, tokenizer, asked, settings.reply_tokens) if accelerator.is_main_process else {}
    subject = prepare_subject(settings, model, tokenizer, documents)
    material = read_material(settings, subject, sets)
    accelerator.print(describe_extension(subject.extended.certificate), material.describe(), sep="\n")
    run = start_run(run, settings, accelerator, make_facts(subject, tokenizer, sets))
    monitor = HeldOutMonitor(subject, material, in_favour(base), accelerator, settings.reply_tokens)
    rate = settings.learning_rate
    optimizer = make_optimizer(subject, rate, settings.new_rows_learning_rate or rate, settings.weight_decay)
    train(
        monitor.loss_model, material.batches, [optimizer], settings, accelerator=accelerator, run=run, evaluate=monitor
    )
    if accelerator.is_main_process:
        finish(settings, subject, base, asked, material, run)
    accelerator.end_training()


def load_base(base: str, accelerator: Accelerator) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The base and its tokenizer, on the device of this process."""
    folder = str(EMBEDDED_BASE) if base == EMBEDDED else base
    tokenizer = load_tokenizer(folder)
    return load_model(folder).to(accelerator.device), tokenizer


def read_domain(settings: SftSettings, sets: ConversationSets) -> list[str]:
    """The documents that new tokens are learned from; none without a corpus."""
    return sets.corpus if settings.corpus is None else read_documents(settings.corpus)


def choose_asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, held_out: Sequence[Conversation], number: int
) -> list[Conversation]:
    """The held-out conversations that base and assistant are asked: spread evenly, of those whose prompts fit the model.

    Raises:
        InputError: none fits.

    """
    ways = [PlainWay(tokenizer, prompt) for prompt in PLAIN_PROMPTS.values()]
    step = max(1, len(held_out) // number)
    asked = [one for one in held_out[::step] if all(fits(model, way, one) for way in ways)][:number]
    if not asked:
        raise InputError(
            f"none of {len(held_out)} held-out conversations fits the positions of the base: give shorter ones"
        )
    return asked


def prepare_subject(
    settings: SftSettings, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]
) -> Subject:
    """The base with its new tokens and what trains of it."""
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


def dry_run(
    settings: SftSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[str],
    sets: ConversationSets,
) -> str:
    """What a run would do: settings, parameters, tokens of an epoch, and the first example with its mask."""
    subject = prepare_subject(settings, model, tokenizer, documents)
    material = read_material(settings, subject, sets)
    parameters, trained = subject.count_parameters()
    lines = [f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()]
    lines += [describe_extension(subject.extended.certificate)]
    lines += [
        f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
        material.describe(),
    ]
    lines += ["first example, with what is learned marked:"]
    lines += [first_example(material, subject.tokenizer, colour=sys.stdout.isatty())]
    return "\n".join(lines)


def make_facts(subject: Subject, tokenizer: PreTrainedTokenizerFast, sets: ConversationSets) -> dict[str, Any]:
    """What the run is made of, as hashes, and what the extension changed."""
    before = subject.extended.certificate.weights_before
    return {
        "data_sha256": sets.sha256(),
        "base_sha256": hashlib.sha256(f"{before.base_rows}{before.other_weights}".encode()).hexdigest(),
        "tokenizer_sha256": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "extension": dataclasses.asdict(subject.extended.certificate),
    }


def in_favour(base: dict[str, Interview]) -> list[Answered]:
    """The base's replies in the way with the fewest bits per byte."""
    return min(base.values(), key=lambda one: one.scores.bits_per_byte).answered if base else []


def finish(
    settings: SftSettings,
    subject: Subject,
    base: dict[str, Interview],
    asked: Sequence[Conversation],
    material: LearningMaterial,
    run: RunFolder,
) -> None:
    """Asks the assistant what the base was asked, saves it, writes the report, and prints three questions with both answers."""
    assistant = interview(subject.model, ChatWay(subject.tokenizer), asked, settings.reply_tokens)
    _, trained = subject.count_parameters()
    facts = {
        "base": settings.base,
        "data": settings.data,
        "method": settings.method,
        "trained parameters": f"{trained:,}",
        "new tokens": f"{len(subject.extended.merges)} learned, {subject.extended.certificate.control_tokens} control tokens",
        "read": material.describe(),
        "steps": settings.max_steps,
        "full settings, versions and hashes": "run.json",
    }
    report = Report(
        title=f"{run.path.name}: an assistant made from {settings.base}",
        base=best_scores([one.scores for one in base.values()]),
        base_by_prompt={name: one.scores for name, one in base.items()},
        assistant=assistant.scores,
        samples=pair_samples(in_favour(base), assistant.answered),
        facts=facts,
        metrics=tuple(run.read_metrics()),
    )
    save_assistant(subject.model, subject.adapted, subject.tokenizer, run.final)
    write_report(report, run.path)
    write_model_card(report, settings.base, run.final)
    print(*map(show_sample, choose_printed(report.samples)), to_text(report.base, report.assistant), sep="\n\n")
    print(f"\nSaved: {run.final}; report: {run.path / 'report.html'}\nAsk both yourself: make app")


def pair_samples(base: Sequence[Answered], assistant: Sequence[Answered]) -> tuple[SampleReplies, ...]:
    """Every question with both replies and the known one."""
    return tuple(
        SampleReplies(
            after.conversation.messages[-2].content, before.reply, after.reply, after.conversation.messages[-1].content
        )
        for before, after in zip(base, assistant, strict=True)
    )


def choose_printed(samples: Sequence[SampleReplies]) -> list[SampleReplies]:
    """Samples from the beginning, the middle and the end of those asked, which never looks at how good they are."""
    return [
        samples[place * (len(samples) - 1) // (PRINTED_SAMPLES - 1)]
        for place in range(min(PRINTED_SAMPLES, len(samples)))
    ]


def show_sample(sample: SampleReplies) -> str:
    """A question with both replies for the terminal."""
    return f"question:  {sample.question}\nbase:      {sample.base}\nassistant: {sample.assistant}\nexpected:  {sample.expected}"


if __name__ == "__main__":
    run_entry(main, SftSettings)
