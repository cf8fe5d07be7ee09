"""How new rows train: a learning rate for each table, and what is measured meanwhile."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from configs import InputError
from finetune.rows.dataset import HeldOut
from scratch_models.corpus.bits_per_byte import bits_per_byte
from scratch_models.loop.optimizers import adamw
from scratch_models.loop.training import held_out_loss
from tokenizer_ext.embeddings.extended_tables import ExtendedEmbedding
from tokenizer_ext.embeddings.row_init import output_start_rows, start_rows
from tokenizer_ext.embeddings.start_names import Start
from tokenizer_ext.embeddings.tables import new_row_parameters

StartTables = tuple[Tensor, Tensor | None]
"""Start rows of the embedding, and of a head with rows of its own, as `start_tables` gives them."""


def make_row_optimizer(
    model: PreTrainedModel, learning_rate: float, output_learning_rate: float | None, weight_decay: float
) -> Optimizer:
    """AdamW on the new rows: those of the embedding, and those of the head, its biases included.

    Raises:
        InputError: a rate for output rows, and the model is tied.

    """
    input_rows, of_head = new_rows_of(model)
    if not any(one.ndim == 2 for one in of_head) and output_learning_rate is not None:
        raise InputError(
            f"output_learning_rate: found {output_learning_rate}, but the model is tied: its rows are input and output "
            "rows at once; leave it out and set learning_rate"
        )
    rate = output_learning_rate or learning_rate
    vectors = [one for one in of_head if one.ndim < 2]
    return adamw(
        [
            {"params": [input_rows], "lr": learning_rate, "weight_decay": weight_decay},
            {"params": [one for one in of_head if one.ndim == 2], "lr": rate, "weight_decay": weight_decay},
            {"params": vectors, "lr": rate, "weight_decay": 0.0},
        ]
    )


def new_rows_of(model: PreTrainedModel) -> tuple[nn.Parameter, list[nn.Parameter]]:
    """The new rows of the embedding, and what else trains of the head; nothing else does where the model is tied."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, ExtendedEmbedding), "separate_new_rows comes first"
    return embedding.new_rows, [one for one in new_row_parameters(model).values() if one is not embedding.new_rows]


@torch.no_grad()
def fill_new_rows(model: PreTrainedModel, start: StartTables) -> None:
    """Writes start rows over the new rows, in place; biases of new ids stay as they are."""
    input_rows, of_head = new_rows_of(model)
    input_rows.copy_(start[0])
    for one in of_head:
        if one.ndim == 2:
            assert start[1] is not None
            one.copy_(start[1])


def make_start(
    model: PreTrainedModel,
    sub_tokens: Sequence[Sequence[int]],
    start: Start,
    seed: int,
    character_counts: Mapping[int, int],
) -> StartTables:
    """Start rows for new rows that are separate already, as `start_tables` makes them before."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    first = embedding.first_new_id
    rows = start_rows(embedding.table.weight[:first], sub_tokens, start, seed)
    if head.new_rows is embedding.new_rows:
        return rows, None
    return rows, output_start_rows(head.head.weight[:first], sub_tokens, start, seed + 1, character_counts)


def copy_new_rows(model: PreTrainedModel) -> dict[str, Tensor]:
    """All that trains, as it is now."""
    return {name: one.detach().clone() for name, one in new_row_parameters(model).items()}


@torch.no_grad()
def put_back_new_rows(model: PreTrainedModel, copied: Mapping[str, Tensor]) -> None:
    """Undoes, in place, what happened to the new rows since `copy_new_rows`."""
    for name, one in new_row_parameters(model).items():
        one.copy_(copied[name])


class HeldOutEvaluation:
    """Held-out loss by step, which the training loop calls in every process."""

    def __init__(self, loss_model: nn.Module, held_out: HeldOut, accelerator: Accelerator) -> None:
        self.loss_model, self.held_out, self.accelerator = loss_model, held_out, accelerator

    def __call__(self, _step: int) -> dict[str, Any]:
        """Nats per token, and bits per byte."""
        nats, targets = held_out_loss(self.loss_model, self.held_out.micro_batches, self.accelerator)
        return {
            "held_out_loss_nats": nats / targets,
            "held_out_bits_per_byte": bits_per_byte(nats, self.held_out.text_bytes),
        }
