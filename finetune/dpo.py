"""Teaches a model which of two replies is preferred (direct preference optimization, Rafailov et al. 2023).

    accelerate launch finetune/dpo.py --base runs/sft-1 --data my_pairs.jsonl
    accelerate launch finetune/dpo.py --base openai-community/gpt2 --data trl-lib/ultrafeedback_binarized
    accelerate launch finetune/dpo.py --help

Each pair has a `prompt`, a `chosen` and a `rejected` reply. The reference is the model as it is before it learns: the
adapter switched off, so there is no second model, and its log-probabilities are computed once. With no argument it
takes the embedded base and pairs about Python signatures, the right answer against a wrong one. It leaves `run.json`,
`metrics.jsonl`, `checkpoints/`, `final/` and `report.html` in a new folder under `runs/`.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from finetune.adapters import Lora
from finetune.conversation_sets import EMBEDDED
from finetune.conversations import Conversation
from finetune.engine import Engine, engine_of, start_engine
from finetune.evaluation import Interview, ask_in_chat, choose_askable, interview, plain_ways
from finetune.fingerprints import tokenizer_sha256, weights_sha256
from finetune.hub import check_repository
from finetune.model_card import read_run_record
from finetune.outcome import describe_engine, hand_over, in_favour
from finetune.preference_batches import count_pairs
from finetune.preference_loss import Objective, PreferenceLoss
from finetune.preference_material import PreferenceMaterial, first_pair, prepare_preferences
from finetune.preference_monitor import PreferenceMonitor
from finetune.preference_outcome import finish_preferences, make_preference_report
from finetune.preference_sets import PreferenceSets, read_preference_sets
from finetune.preference_start import load_start, prepare_start, read_original
from finetune.reference import (
    describe_reference,
    pair_log_probabilities,
    read_reference,
    reference_model,
    write_reference,
)
from finetune.subject import Subject, make_optimizer
from finetune.ways import ChatWay, Way
from scratch_models.devices import make_accelerator
from scratch_models.loop_settings import LoopSettings
from scratch_models.precision import expect_precision
from scratch_models.run_folder import RunFolder, choose_run_folder
from scratch_models.training import record_start, start_run, train
from tokenizer_ext.figures import require_plots
from tokenizer_ext.terminal import quiet_libraries


@dataclass(frozen=True, kw_only=True)
class DpoSettings(LoopSettings):
    """Preference tuning. The defaults make a demo: embedded base, embedded pairs, LoRA."""

    base: str = EMBEDDED
    """Model to start from: a run of sft, `embedded`, a Hugging Face folder, or a Hub name."""
    data: str = EMBEDDED
    """Pairs of `prompt`, `chosen` and `rejected`: `embedded`, a .jsonl or .json file, or a Hub name."""
    method: Literal["lora", "full"] = "lora"
    """What trains: LoRA, or every weight."""
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """What is made of a pair's log-ratios: DPO's own loss, or IPO's."""
    beta: float = 0.1
    """How much a nat of difference from the reference counts; higher keeps closer to it."""
    chosen_weight: float = 0.0
    """Weight of the chosen reply's nats per token in the loss; above 0 it stays likely in itself."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 multiplies matrices in half precision, of the reference too; auto takes what is faster here, measured."""
    lora_rank: int = 16
    """Rank of the adapter's matrices."""
    lora_alpha: float = 32.0
    """Scale of the adapter: it adds alpha / rank times its product."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs dropped in training."""
    lora_options: dict[str, Any] = field(default_factory=dict)
    """Further fields of peft's LoraConfig, as in `--lora_options.use_dora true`: use_rslora, init_lora_weights, ..."""
    target_modules: str | list[str] | None = None
    """Layers that get LoRA: ends of their names or a regular expression; by default all linear ones in the blocks."""
    merge: bool = False
    """Also write `merged/`: one model without adapter, compared with the adapter model after it was read back."""
    push_to_hub: str | None = None
    """Repository on the Hub to upload the finished model to, merged where asked, such as `my-name/my-assistant`."""
    pairs_per_step: int = 32
    """Pairs that one step learns from, over all processes."""
    tokens_per_micro_batch: int = 4096
    """Tokens that are in memory at once in a process, both replies of a pair counted."""
    maximum_tokens: int = 512
    """Longest prompt and reply in tokens; pairs with a longer one are left out and counted."""
    evaluation_pairs: int = 200
    """Held-out pairs whose rewards evaluations read."""
    evaluation_replies: int = 50
    """Of them, those whose prompts are answered before training and after it."""
    reply_tokens: int = 96
    """Longest reply in tokens when the models are asked."""
    max_steps: int = 200
    """Optimizer steps."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """What the learning rate does after the warm-up; cosine ends at a tenth of the peak."""

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("lora_rank", "pairs_per_step", "tokens_per_micro_batch", "maximum_tokens")
        for name in (*counts, "evaluation_pairs", "evaluation_replies", "reply_tokens"):
            self.expect(name, getattr(self, name) >= 1, "at least 1")
        self.expect("lora_dropout", 0 <= self.lora_dropout < 1, "0 or more and below 1")
        for name in ("lora_alpha", "beta"):
            self.expect(name, 0 < getattr(self, name) < math.inf, "a finite number above 0")
        self.expect("chosen_weight", 0 <= self.chosen_weight < math.inf, "a finite number, 0 or more")
        for name in ("lora_options", "target_modules", "merge"):
            if self.method == "full" and getattr(self, name):
                raise InputError(f"{name}: with --method full there is no adapter: leave it out, or use --method lora")

    @property
    def objective(self) -> Objective:
        """The loss of a pair."""
        return Objective(kind=self.loss, beta=self.beta, chosen_weight=self.chosen_weight)

    @property
    def lora(self) -> Lora | None:
        """The adapter; None where every weight trains."""
        if self.method == "full":
            return None
        return Lora(
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            dropout=self.lora_dropout,
            options=self.lora_options,
            target_modules=self.target_modules,
        )


def main(settings: DpoSettings) -> None:
    """Reads, attaches, asks the reference, trains, asks again, saves, reports."""
    require_plots()
    quiet_libraries()
    run = choose_run_folder(settings.output_dir, "dpo", dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator("auto", settings.log_with, run.path)  # the engine sees to the precision
    check_launch(settings, accelerator)
    torch.manual_seed(settings.seed)
    sets = read_sets(settings.data, accelerator)
    model, tokenizer = load_start(settings.base, accelerator.device)
    subject = prepare_start(model, tokenizer, settings.lora)
    material = read_material(settings, subject, sets)
    ways = choose_ways(subject, tokenizer)
    asked = choose_asked(settings, subject, material, ways)
    engine = start_engine(subject.model, settings, accelerator, precision=recorded_precision(settings, run))
    accelerator.print(*describe(settings, subject, material, engine), sep="\n")
    if settings.dry_run:
        return
    run = start_run(run, settings, accelerator, make_facts(subject, tokenizer, sets, engine))
    loss_model = PreferenceLoss(subject.model, settings.objective).to(accelerator.device)
    reference = ask_reference(settings, subject, material, ways, asked, run, accelerator)
    monitor = PreferenceMonitor(subject, loss_model, material, in_favour(reference), accelerator, settings.reply_tokens)
    if not settings.resume:
        record_start(monitor, run, accelerator)
    rate = settings.learning_rate
    optimizer = make_optimizer(subject, rate, rate, settings.weight_decay)
    train(
        loss_model,
        material.batches,
        [optimizer],
        settings,
        accelerator=accelerator,
        run=run,
        evaluate=monitor,
        count=count_pairs,
    )
    held_out = monitor.measure()
    engine.release()
    if accelerator.is_main_process:
        report = make_preference_report(
            title=f"{run.path.name}: preferences taught to {settings.base}",
            facts=describe_run(settings, subject, material, engine),
            run=run,
            material=material,
            reference=reference,
            tuned=ask_in_chat(subject.model, subject.tokenizer, asked, settings.reply_tokens),
            held_out=held_out,
        )
        finish_preferences(report, settings.base, subject, run)
        hand_over(run, merge=settings.merge, push_to_hub=settings.push_to_hub)
    accelerator.end_training()


def check_launch(settings: DpoSettings, accelerator: Accelerator) -> None:
    """Refuses what cannot work on this machine, before anything is read.

    Raises:
        InputError: the processes do not divide the pairs of a step, bf16 is missing, or nobody is logged in.

    """
    expect_precision(settings.precision, accelerator.device)
    if settings.pairs_per_step % accelerator.num_processes:
        raise InputError(
            f"pairs_per_step: found {settings.pairs_per_step}, expected a multiple of the "
            f"{accelerator.num_processes} processes of this launch"
        )
    if settings.push_to_hub is not None:
        check_repository(settings.push_to_hub)


def recorded_precision(settings: DpoSettings, run: RunFolder) -> str | None:
    """What a run that is resumed was started with: a probe might choose otherwise today."""
    return read_run_record(run.path).get("engine", {}).get("precision") if settings.resume else None


def read_sets(data: str, accelerator: Accelerator) -> PreferenceSets:
    """The pairs; embedded ones are read by the main process first, which fills the cache for the others."""
    if data == EMBEDDED:
        with accelerator.main_process_first():
            return read_preference_sets(data)
    return read_preference_sets(data)


def read_material(settings: DpoSettings, subject: Subject, sets: PreferenceSets) -> PreferenceMaterial:
    """The pairs as ids."""
    positions = getattr(subject.model.config.get_text_config(), "max_position_embeddings", None)
    return prepare_preferences(
        subject.tokenizer,
        sets,
        maximum_tokens=min(settings.maximum_tokens, positions or settings.maximum_tokens),
        held_out_pairs=settings.evaluation_pairs,
        pairs_per_step=settings.pairs_per_step,
        tokens_per_micro_batch=settings.tokens_per_micro_batch,
        seed=settings.seed,
    )


def choose_ways(subject: Subject, tokenizer: PreTrainedTokenizerFast) -> dict[str, Way]:
    """How the reference is asked: an assistant in its chat format, a base that does not know it in plain text."""
    if subject.extended.certificate.control_tokens:
        return plain_ways(tokenizer)
    return {"chat": ChatWay(subject.tokenizer)}


def choose_asked(
    settings: DpoSettings, subject: Subject, material: PreferenceMaterial, ways: dict[str, Way]
) -> list[Conversation]:
    """The held-out prompts that are answered before and after, with the replies that are preferred."""
    conversations = [pair.with_chosen() for pair in material.held_out]
    every_way = [*ways.values(), ChatWay(subject.tokenizer)]
    return choose_askable(conversations, settings.evaluation_replies, [(subject.model, way) for way in every_way])


def describe(settings: DpoSettings, subject: Subject, material: PreferenceMaterial, engine: Engine) -> list[str]:
    """What a run does, with every setting and an example where it is only shown."""
    parameters, trained = subject.count_parameters()
    lines = [
        f"parameters: {parameters:,}, of which {trained:,} ({trained / parameters:.1%}) are trained",
        f"reference: {describe_reference(subject)}; {describe_engine(engine)}",
        material.describe(),
    ]
    if added := subject.extended.certificate.control_tokens:
        lines.append(
            f"{settings.base} knows no chat format: {added} control tokens were added and learn with it. Preferences "
            "are usually taught to an assistant: accelerate launch finetune/sft.py makes one, --base takes its run"
        )
    if settings.dry_run:
        lines = [*(f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()), *lines]
        lines.append("first pair, with what is compared marked:")
        lines.append(first_pair(material, subject.tokenizer, colour=sys.stdout.isatty()))
    return lines


def make_facts(
    subject: Subject, tokenizer: PreTrainedTokenizerFast, sets: PreferenceSets, engine: Engine
) -> dict[str, Any]:
    """What the run is made of, as hashes, where its reference comes from, and how the model computes."""
    return {
        "data_sha256": sets.sha256(),
        "base_sha256": weights_sha256(subject.extended.certificate.weights_before),
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "reference": describe_reference(subject),
        "engine": engine.facts(),
    }


def ask_reference(
    settings: DpoSettings,
    subject: Subject,
    material: PreferenceMaterial,
    ways: dict[str, Way],
    asked: Sequence[Conversation],
    run: RunFolder,
    accelerator: Accelerator,
) -> dict[str, Interview]:
    """Gives every pair its reference; the reference's replies come back in the main process, the others get none."""
    sets = (material.batches, material.held_out_batches)
    kept = read_reference(run.path, [len(batches.rows) for batches in sets]) if settings.resume else None
    with reference_model(subject, lambda: read_original_alike(settings, subject, accelerator)) as model:
        if kept is None:
            pairs = material.batches.read_in(settings.max_steps), range(len(material.held_out))
            accelerator.print(f"Asking the reference about {sum(map(len, pairs)):,} pairs …")
            asking = PreferenceLoss(model, settings.objective)
            kept = [
                pair_log_probabilities(asking, batches, numbers, accelerator)
                for batches, numbers in zip(sets, pairs, strict=True)
            ]
            if accelerator.is_main_process:
                write_reference(kept, run.path)
        for batches, found in zip(sets, kept, strict=True):
            batches.reference = found
        if not accelerator.is_main_process:
            return {}
        print(f"Asking the reference {len(asked)} held-out prompts …")
        return {name: interview(model, way, asked, settings.reply_tokens) for name, way in ways.items()}


def read_original_alike(settings: DpoSettings, subject: Subject, accelerator: Accelerator) -> PreTrainedModel:
    """The original, which computes as the subject does: what they differ by is then what was learned."""
    original = read_original(settings.base, accelerator.device)
    engine = engine_of(subject.model)
    start_engine(original, settings, accelerator, precision=None if engine is None else engine.precision)
    return original


def describe_run(
    settings: DpoSettings, subject: Subject, material: PreferenceMaterial, engine: Engine
) -> dict[str, str]:
    """The facts of the report."""
    parameters, trained = subject.count_parameters()
    return {
        "base": settings.base,
        "data": settings.data,
        "method": settings.method,
        "loss": f"{settings.loss}, beta {settings.beta:g}, weight of the chosen reply {settings.chosen_weight:g}",
        "reference": describe_reference(subject),
        "parameters": f"{parameters:,}, of which {trained:,} were trained",
        "read": material.describe(),
        "steps": f"{settings.max_steps:,}",
        "computed": describe_engine(engine),
        "full settings, versions and hashes": "run.json",
    }


if __name__ == "__main__":
    run_entry(main, DpoSettings)
