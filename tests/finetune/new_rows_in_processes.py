"""A short training of new rows, alone or in two processes that DDP or FSDP2 joins; the losses must be the same.

    python tests/finetune/new_rows_in_processes.py RANK DIR

is one of two processes that meet in DIR, train every kind of model in both ways, and leave `<kind> <way>.json` there.
"""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.micro_batches import IGNORED_TARGET
from scratch_models.loop.sharding import gather_model, shard
from tests.finetune.tiny_models import VOCABULARY, tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import fold, new_row_parameters, separate_new_rows

NEW_TOKENS, STEPS, T = 5, 10, 12
FIRST_NEW_ID = VOCABULARY - NEW_TOKENS - 2  # with two padding rows
KINDS = ("tied", "untied", "tied with LoRA")
SHARING = ("ddp", "fsdp2")
ONE_OF_TWO = SimpleNamespace(device=torch.device("cpu"), num_processes=2)  # what an accelerator says of this process
# Learned targets of the four rows of a step: the two processes have 13 and 20 of them. No new id is among the inputs of
# the first row, which is all that a process sees in some steps.
LEARNED = (1, 8, 12, 12)


def make_model(kind: str) -> PreTrainedModel:
    """A model whose new rows are apart; without dropout."""
    model = tiny_llama() if kind == "untied" else tiny_gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    if "LoRA" in kind:
        attach_lora(model, Lora(rank=2, alpha=4.0, dropout=0.0))
    return model


def batch_of(step: int) -> dict[str, Tensor]:
    """Four rows of a step, the same in every other step, so that there is something to learn."""
    generator = torch.Generator().manual_seed(step % 2)
    ids = torch.randint(FIRST_NEW_ID + NEW_TOKENS, (4, T + 1), generator=generator)
    ids[0] = ids[0].clamp(max=FIRST_NEW_ID - 1)
    learned = torch.arange(T) < torch.tensor(LEARNED)[:, None]  # (4, T)
    return {"input_ids": ids[:, :-1], "targets": ids[:, 1:].where(learned, IGNORED_TARGET)}


def train(loss_model: nn.Module, rank: int = 0, world_size: int = 1) -> list[float]:
    """The mean loss of each step over all processes."""
    trained = [parameter for parameter in loss_model.parameters() if parameter.requires_grad]
    # Not AdamW: it divides by the size of a gradient, and so hides one that is wrong by a factor.
    optimizer = torch.optim.SGD(trained, lr=0.3, momentum=0.5)
    losses = []
    for step in range(STEPS):
        mine = {name: tensor[rank::world_size] for name, tensor in batch_of(step).items()}
        nats = loss_model(**mine)
        (nats * (world_size / sum(LEARNED))).backward()
        optimizer.step()
        optimizer.zero_grad()
        total = nats.detach().clone()
        if world_size > 1:
            dist.all_reduce(total)
        losses.append(float(total) / sum(LEARNED))
    return losses


def main(rank: int, folder: Path) -> None:
    """Joins the other process, trains, and writes the losses and the trained rows of every kind and way."""
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    for kind in KINDS:
        for sharing, found in in_both_formats(kind, rank):
            if rank == 0:
                (folder / f"{kind} {sharing}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def in_both_formats(kind: str, rank: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What DDP and FSDP2 make of a model."""
    model = make_model(kind)
    found: dict[str, Any] = {"losses": train(DistributedDataParallel(SupervisedLoss(model)), rank, 2)}
    yield "ddp", found | {"rows": [rows.tolist() for rows in new_row_parameters(model).values()]}
    model = make_model(kind)
    loss_model = SupervisedLoss(model)
    shard(loss_model, cast(Accelerator, ONE_OF_TWO))
    shards = [[*rows.to_local().shape] for rows in new_row_parameters(model).values()]  # type: ignore[attr-defined]
    whole = sum(parameter.numel() for parameter in loss_model.parameters())
    held = sum(parameter.to_local().numel() for parameter in loss_model.parameters())  # type: ignore[attr-defined]
    found = {"losses": train(loss_model, rank, 2), "shards": shards, "held": held / whole}
    gathered = [rows.full_tensor() for rows in new_row_parameters(model).values()]  # type: ignore[attr-defined]
    found |= {"rows": [rows.tolist() for rows in gathered], "refused": refusal_to_fold(model)}
    gather_model(loss_model)
    found["plain"] = [rows.tolist() for rows in new_row_parameters(model).values()]
    yield "fsdp2", found | {"refused_when_gathered": refusal_to_fold(model)}


def refusal_to_fold(model: PreTrainedModel) -> str:
    """What `fold` says to rows that no process holds whole."""
    try:
        fold(model)
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
