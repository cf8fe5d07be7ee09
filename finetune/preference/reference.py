"""What the reference of preference tuning thinks of each reply: asked once, before the first step.

The reference is the model as it is before it learns. No second model is kept: with the adapter switched off, the model
under training is its own reference. Where switching off does not give the base back (PiSSA moves the base's weights,
rows of new tokens train beside the adapter) the original is read once more, asked, and dropped.

Shapes: N pairs of a set, P pairs of a micro-batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from configs.whole_folder import write_whole
from finetune.engine.engine import Engine
from finetune.lora.lora import base_is_given_back
from finetune.lora.trainable_model import TrainableModel
from finetune.preference.batches import PreferenceBatches
from finetune.preference.dpo_loss import PreferenceLoss
from scratch_models.loop.micro_batches import to_device
from tokenizer_ext.pages.progress import progress

REFERENCE = "reference.safetensors"


def describe_reference(trainable: TrainableModel) -> str:
    """Where the reference comes from, as `run.json` says it."""
    if trainable.adapted is None:
        return "the model before its first step"
    return "the adapter switched off" if base_is_given_back(trainable.adapted) else "the original model, read once more"


@contextmanager
def reference_model(
    trainable: TrainableModel,
    engine: Engine | None,
    read_original: Callable[[], tuple[PreTrainedModel, Engine | None]],
) -> Iterator[tuple[PreTrainedModel, Engine | None]]:
    """The model as it was before it learned, and the engine that is on it.

    `engine` is that of the model under training; `read_original` gives the one that it was made from, with its own.
    """
    if trainable.adapted is None:
        yield trainable.model, engine
    elif base_is_given_back(trainable.adapted):
        with trainable.adapted.disable_adapter():
            yield trainable.model, engine
    else:
        original, on_original = read_original()
        yield original, on_original
        if on_original is not None:
            on_original.release()  # or its layers would keep the original in memory


@torch.no_grad()
def pair_log_probabilities(
    loss_model: PreferenceLoss, batches: PreferenceBatches, pairs: Sequence[int], accelerator: Accelerator
) -> Tensor:
    """The log-probabilities of chosen and rejected of some pairs, (N, 2), NaN for the others.

    The processes share the work, and each gets all of it.
    """
    was_training = loss_model.training
    loss_model.eval()
    found = torch.zeros(len(batches), 2, device=accelerator.device)
    mine = -(-len(pairs) // accelerator.num_processes)
    with accelerator.autocast(), progress("log-probabilities", mine, "pairs") as bar:
        for numbers, micro_batch in batches.share_of(pairs, accelerator.process_index, accelerator.num_processes):
            of_rows = loss_model(**to_device(micro_batch, accelerator), summed=False)  # (2P,)
            found[numbers] = of_rows.view(2, -1).T[: len(numbers)].float()  # (P, 2)
            bar.update(len(numbers))
    loss_model.train(was_training)
    gathered: Tensor = (accelerator.reduce(found, "sum") if accelerator.num_processes > 1 else found).cpu()
    asked = torch.zeros(len(found), 1, dtype=torch.bool)
    asked[list(pairs)] = True
    return gathered.masked_fill(~asked, torch.nan)


def write_reference(found: Sequence[Tensor], folder: Path) -> None:
    """Keeps the log-probabilities of the training and the held-out pairs for a resumed run."""
    write_whole(folder / REFERENCE, save({"training": found[0].contiguous(), "held_out": found[1].contiguous()}))


def read_reference(folder: Path, pairs: Sequence[int]) -> list[Tensor] | None:
    """What `write_reference` kept of so many pairs, None where it is missing or damaged."""
    try:
        tensors = load_file(folder / REFERENCE)
        found = [tensors["training"], tensors["held_out"]]
    except (OSError, SafetensorError, KeyError):
        return None
    return found if [list(one.shape) for one in found] == [[number, 2] for number in pairs] else None
