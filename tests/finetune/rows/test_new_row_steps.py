"""Steps on new rows: the same as on the whole matrices, without their memory, and nothing else moves."""

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)

from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.losses import chunked_cross_entropy
from finetune.losses.supervised_loss import SupervisedLoss
from tests.finetune.largest_tensor import LargestTensor
from tests.finetune.tiny_models import tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import find_tables, fold, grow_rows, new_row_parameters, separate_new_rows

OLD, NEW, MULTIPLE = 61, 7, 8  # 72 rows, four of them padding
LORA = Lora(rank=2, alpha=4.0, dropout=0.0)


def tiny_phi(vocabulary: int = OLD) -> PreTrainedModel:
    """A random Phi: the head has a bias."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = PhiConfig(vocab_size=vocabulary, initializer_range=0.2, bos_token_id=1, eos_token_id=2, **shape)
    return PhiForCausalLM(config).eval()


def tiny_gemma3(vocabulary: int = OLD) -> PreTrainedModel:
    """A random Gemma 3: the embedding scales its rows."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "head_dim": 16}
    return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=vocabulary, initializer_range=0.2, **shape)).eval()


KINDS = {
    "tied": tiny_gpt2,
    "tied, rows scaled": tiny_gemma3,
    "untied": tiny_llama,
    "untied, with a bias": tiny_phi,
}
TABLES = {"tied": 1, "tied, rows scaled": 1, "untied": 2, "untied, with a bias": 3}


def grown(kind: str, old: int = OLD, new: int = NEW) -> PreTrainedModel:
    model = KINDS[kind](old)
    rows = torch.randn(new, 32, generator=torch.Generator().manual_seed(1)) * 0.2
    grow_rows(model, old, rows, rows.flip(0) if "untied" in kind else None, multiple=MULTIPLE)
    return model


def batches(steps: int, tokens: int = 24) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        ids = torch.randint(OLD, (3, tokens + 1), generator=generator)
        ids[:, 2::3] = OLD + ids[:, 1:-1:3] % NEW  # a third is new, and follows from what stands before it
        yield ids[:, :-1], ids[:, 1:]


def train_rows(model: PreTrainedModel, steps: int, weight_decay: float = 0.0) -> list[float]:
    """Losses of the model with separate new rows, under AdamW."""
    loss_model = SupervisedLoss(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=weight_decay)
    losses = []
    for input_ids, targets in batches(steps):
        loss = loss_model(input_ids, targets) / targets.numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def train_whole_matrices(model: PreTrainedModel, steps: int, weight_decay: float) -> list[float]:
    """Losses where the whole tables train on all logits, and every row that is not new is put back after each step."""
    tables = find_tables(model.requires_grad_(False))
    assert tables.head is not None
    trained = dict.fromkeys([tables.embedding.weight, tables.head.weight, tables.head.bias])  # a tied matrix once
    whole = [one for one in trained if one is not None]
    for one in whole:
        one.requires_grad_(True)
    start = [one.detach().clone() for one in whole]
    optimizer = torch.optim.AdamW(whole, lr=1e-2, weight_decay=weight_decay)
    losses = []
    for input_ids, targets in batches(steps):
        loss = F.cross_entropy(model(input_ids).logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for one, old in zip(whole, start, strict=True):
            one.data[:OLD], one.data[OLD + NEW :] = old[:OLD], old[OLD + NEW :]
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_30_steps_have_the_losses_of_training_the_whole_matrices_with_all_other_rows_held(kind: str):
    model = grown(kind)
    whole = copy.deepcopy(model)
    separate_new_rows(model, OLD, NEW)
    ours, theirs = train_rows(model, 30, weight_decay=0.1), train_whole_matrices(whole, 30, weight_decay=0.1)
    assert ours[-1] < ours[0] - 0.2
    assert ours == pytest.approx(theirs, abs=1e-5, rel=0)
    fold(model)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, whole.state_dict()[name], rtol=0, atol=1e-4)


def sha256_of(folder: Path) -> dict[str, str]:
    """sha256 of the old rows of each table and of every other weight, from the file alone."""
    hashes = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        parts = {"": weight}
        if len(weight) == OLD + NEW + 4:
            parts = {" old": weight[:OLD], " padding": weight[OLD + NEW :]}
        for part, tensor in parts.items():
            hashes[name + part] = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
    return hashes


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[pytest.mark.long] * (one in ("untied", "tied, rows scaled"))) for one in KINDS]
)
def test_after_200_steps_with_decay_saved_folded_and_reloaded_nothing_else_has_moved_a_bit(kind: str, tmp_path):
    model = grown(kind)
    model.save_pretrained(tmp_path / "before")
    before = sha256_of(tmp_path / "before")
    assert sum("old" in name for name in before) == TABLES[kind]
    separate_new_rows(model, OLD, NEW)
    start = {name: rows.detach().clone() for name, rows in new_row_parameters(model).items()}
    losses = train_rows(model, 200, weight_decay=0.1)
    assert losses[-1] < losses[0] - 0.3
    for name, rows in new_row_parameters(model).items():
        assert (rows != start[name]).all()  # every number of every new row has moved
    fold(model)
    model.save_pretrained(tmp_path / "after")
    assert sha256_of(tmp_path / "after") == before
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "after").eval()
    ids = torch.arange(OLD + NEW)[None]
    assert torch.equal(reloaded(ids).logits, model.eval()(ids).logits)
    reloaded.save_pretrained(tmp_path / "again")
    assert sha256_of(tmp_path / "again") == before


@pytest.mark.parametrize("kind", KINDS)
def test_lora_and_new_rows_train_in_the_same_run_and_nothing_else_does(kind: str):
    model = grown(kind)
    separate_new_rows(model, OLD, NEW)
    attach_lora(model, LORA)
    rows = {id(one) for one in new_row_parameters(model).values()}
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    losses = train_rows(model, 20, weight_decay=0.1)
    assert losses[-1] < losses[0] - 0.2
    for name, one in model.named_parameters():
        assert torch.equal(one, before[name]) == ("lora_" not in name and id(one) not in rows), name


@pytest.mark.parametrize("lora", [False, True], ids=["rows alone", "rows with LoRA"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_takes_no_memory_of_a_table_nor_of_the_logits_of_its_batch(kind: str, lora: bool, monkeypatch):
    old, new, chunk_tokens = 4000, 40, 5
    for limit in ("LEAST_CHUNK_TOKENS", "MOST_CHUNK_TOKENS"):
        monkeypatch.setattr(chunked_cross_entropy, limit, chunk_tokens)
    model = grown(kind, old, new)
    separate_new_rows(model, old, new)
    if lora:
        attach_lora(model, LORA)
    loss_model = SupervisedLoss(model.train())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1)
    ids = torch.randint(old + new, (2, 33), generator=torch.Generator().manual_seed(0))
    with LargestTensor(*model.parameters(), *model.buffers()) as largest:
        loss_model(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
    rows = -(-(old + new) // MULTIPLE) * MULTIPLE
    assert largest.elements == chunk_tokens * rows < old * 32 < ids[:, 1:].numel() * old
