"""A model from scratch, from its settings to its sample: what happens, in order."""

import dataclasses
import hashlib
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.corpus.blocks import RandomBlocks, held_out_blocks
from scratch_models.corpus.encoded_text import TrainingText
from scratch_models.corpus.training_text import read_training_text
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary, Vocabulary
from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.documents.filters import describe as describe_documents
from scratch_models.launch.compilation import compile_blocks, expect_compiler, release_blocks
from scratch_models.launch.folder_lock import folders_released
from scratch_models.launch.waiting import main_process_first
from scratch_models.loop.best_checkpoint import saved_evaluation
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.optimizers import make_optimizers
from scratch_models.loop.precision import expect_precision
from scratch_models.loop.run_folder import RunFolder, choose_run_folder
from scratch_models.loop.run_record import start_run
from scratch_models.loop.training import SummedLoss, held_out_loss, train
from scratch_models.make_model import make_model
from scratch_models.rungs.all_rungs import ScratchModel
from scratch_models.scratch_folder import save_scratch_model
from scratch_models.train_settings import TrainSettings


@folders_released()
def train_from_scratch(settings: TrainSettings) -> None:
    """Reads, makes, trains, saves, samples."""
    run = choose_run_folder(settings.output_dir, settings.name, dataclasses.asdict(settings), resume=settings.resume)
    accelerator = make_accelerator(settings.precision, settings.log_with, run.path)
    expect_precision(settings.precision, accelerator.device)
    if settings.compile:
        expect_compiler(accelerator.device)
    torch.manual_seed(settings.seed)
    with main_process_first(accelerator):  # it fills the caches that the others then read
        text = read_training_text(settings.data, settings.tokens, settings.vocabulary_size, settings.filter_names)
    if text.documents:
        accelerator.print(describe_documents(text.documents))
    model = make_model(settings, len(text.vocabulary))
    batches = _batches(text, settings)
    batches.micro_batches(0, accelerator.process_index, accelerator.num_processes)  # refuses too few for the processes
    if settings.dry_run:
        accelerator.print(describe(settings, model, text))
        return
    run = fit(model, text, settings, accelerator, run)
    if accelerator.is_main_process:
        last = saved_evaluation(run)
        print(f"End of training. Loss: {last['held_out_loss_nats']:.4f} nats per token", end=" ")
        print(f"({last['held_out_bits_per_byte']:.4f} bits per byte) on held-out text. Saved: {run.final}")
        print(sample(model, text, settings))
    accelerator.end_training()


def fit(
    model: ScratchModel, text: TrainingText, settings: TrainSettings, accelerator: Accelerator, run: RunFolder
) -> RunFolder:
    """Trains the model in place and saves it in the run's folder, which is returned."""
    loss_model = SummedLoss(model).to(accelerator.device)
    of_optimizers = ("muon_learning_rate", "table_learning_rate", "adam_beta2")
    optimizers = make_optimizers(loss_model, settings, **{name: getattr(settings, name) for name in of_optimizers})
    evaluation = HeldOutEvaluation(loss_model, text, settings, accelerator)
    run = start_run(run, settings, accelerator, make_facts(text), model)
    batches = _batches(text, settings)
    if settings.compile:
        compile_blocks(model)
    train(loss_model, batches, optimizers, settings, accelerator=accelerator, run=run, evaluate=evaluation)
    release_blocks(model)  # what follows reads rows of every length
    if accelerator.is_main_process:
        save_scratch_model(model, text.vocabulary, run.final)
    return run


def _batches(text: TrainingText, settings: TrainSettings) -> RandomBlocks:
    sizes = (settings.block_size, settings.blocks_per_batch)
    return RandomBlocks(text.training_ids, *sizes, settings.seed, settings.blocks_per_micro_batch)


def sample(model: ScratchModel, text: TrainingText, settings: TrainSettings) -> str:
    """Text that the model writes by itself after the first held-out id."""
    start = [int(text.held_out_ids[0])]
    # A token is at least one character, so as many tokens as characters are enough.
    ids = generate(model, start, settings.sample_characters, Sampling(temperature=1.0, seed=settings.seed))
    return str(text.vocabulary.decode(list(ids)))[: settings.sample_characters]


def describe(settings: TrainSettings, model: nn.Module, text: TrainingText) -> str:
    """What a dry run shows: settings, parameters, tokens, and the first block, which is all learned."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    first = RandomBlocks(text.training_ids, settings.block_size, 1, settings.seed).micro_batches(0, 0, 1)[0]
    tokens_per_step = settings.block_size * settings.blocks_per_batch
    tokens_read = tokens_per_step * settings.max_steps
    lines = [f"{name} = {value}" for name, value in dataclasses.asdict(settings).items()]
    lines += [
        f"parameters: {parameters:,}, all of them trained",
        f"tokens: {len(text.training_ids):,} to train on (an epoch), {len(text.held_out_ids):,} held out",
        f"each step reads {tokens_per_step:,} tokens, the run {tokens_read / len(text.training_ids):.2f} epochs",
        "supervised: 100 % of tokens",
        f"first block, all of it learned: {text.vocabulary.decode(first['input_ids'][0].tolist())!r}",
    ]
    return "\n".join(lines)


class HeldOutEvaluation:
    """Held-out loss during training on some blocks, at the last step on all unless evaluations are compared."""

    def __init__(
        self, loss_model: nn.Module, text: TrainingText, settings: TrainSettings, accelerator: Accelerator
    ) -> None:
        self.loss_model, self.accelerator = loss_model, accelerator
        # Evaluations that are compared with each other must read the same.
        compared = settings.keep_best or settings.early_stopping_evaluations
        self.reads_all_at = None if compared else settings.max_steps
        # The whole held-out part is read in micro-batches of a size that a small machine holds.
        blocks = max(1, min(4096 // settings.block_size, settings.evaluation_blocks))
        self.micro_batches = held_out_blocks(text.held_out_ids, settings.block_size, blocks)
        self.interval = max(1, len(self.micro_batches) * blocks // settings.evaluation_blocks)
        self.bytes_per_token = text.held_out_bytes / (len(text.held_out_ids) - 1)

    def __call__(self, step: int) -> dict[str, float]:
        """What a line of `metrics.jsonl` says of the held-out text after a step."""
        chosen = self.micro_batches if step == self.reads_all_at else self.micro_batches[:: self.interval]
        nats, targets = held_out_loss(self.loss_model, chosen, self.accelerator)
        return {
            "held_out_loss_nats": nats / targets,
            "held_out_bits_per_byte": bits_per_byte(nats, text_bytes=round(targets * self.bytes_per_token)),
        }


def make_facts(text: TrainingText) -> dict[str, Any]:
    """The hashes of what a run is made of, and what was left out of it."""
    hashes = {"data_sha256": text.sha256, "tokenizer_sha256": vocabulary_sha256(text.vocabulary)}
    return {**hashes, "documents": text.documents} if text.documents else hashes


def vocabulary_sha256(vocabulary: Vocabulary) -> str:
    """The hash of a vocabulary with all that decides which ids a text has."""
    if isinstance(vocabulary, CharacterVocabulary):
        content = "".join(vocabulary.characters)
    elif isinstance(vocabulary, ByteVocabulary):
        content = "bytes"
    else:
        content = vocabulary.backend_tokenizer.to_str()
    return hashlib.sha256(content.encode()).hexdigest()
