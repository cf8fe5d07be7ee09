"""Tables spread over two processes against torch's own lookup, product and cross-entropy on the whole table."""

import copy
from functools import partial
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn import functional as F
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

from finetune.losses.token_losses import token_losses
from scratch_models.loop.devices import make_accelerator, make_mesh
from scratch_models.sharded import vocabulary_parallel
from scratch_models.sharded.vocabulary_parallel import spread_table, take_back_table
from tests.reliability.forked_ranks import run_ranks
from tokenizer_ext.held_weights.stored_layers import hold_as_stored

VOCABULARY, WIDTH = 37, 6  # which two processes cannot share out evenly


def spread(table: nn.Module, mesh, *, trains: bool = False) -> nn.Module:
    for name, parameter in list(table._parameters.items()):
        if parameter is not None:
            rows = distribute_tensor(parameter.detach(), mesh, [Shard(0)])
            table._parameters[name] = nn.Parameter(rows, requires_grad=trains)
    spread_table(table, mesh)
    return table


def compare(rank: int) -> None:
    """What fails here fails the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    mesh = make_mesh(make_accelerator("fp32"))
    vocabulary_parallel.NUMBERS_AT_ONCE = 8 * WIDTH
    for tokens in ((5, 3), (0, 4), (300, 2), (0, 0)):
        torch.manual_seed(0)  # the same tables in both, and other tokens
        heads = [nn.Linear(WIDTH, VOCABULARY, bias=True), nn.Linear(WIDTH, VOCABULARY, bias=False)]
        half = nn.Sequential(nn.Linear(WIDTH, VOCABULARY, bias=False)).to(torch.bfloat16)
        hold_as_stored(half)
        torch.manual_seed(rank)
        for head in [*copy.deepcopy(heads), half[0]]:
            check_head(head, tokens[rank], mesh)
        for head in heads:
            check_gradients(head, partial(weighed_nats, tokens[rank]), mesh)
    torch.manual_seed(0)
    scaled = Gemma3TextScaledWordEmbedding(VOCABULARY, WIDTH, padding_idx=36, embed_scale=2.5)
    stored = nn.Sequential(nn.Embedding(VOCABULARY, WIDTH)).to(torch.bfloat16)
    hold_as_stored(stored)
    ids = torch.tensor([[36, 0, 18, 19]] if rank else [[7, 7], [3, 36]])
    for table in (nn.Embedding(VOCABULARY, WIDTH, padding_idx=3), copy.deepcopy(scaled)):
        check_gradients(table, lambda table: (table(ids) + 1).pow(3).sum(), mesh)
    for table in (nn.Embedding(VOCABULARY, WIDTH, padding_idx=3), scaled, stored[0]):
        before = type(table), table(ids).detach()
        assert torch.equal(spread(table, mesh)(ids), before[1])
        take_back_table(table)
        assert not {"here", "alone"} & vars(table).keys()
    torch.distributed.destroy_process_group()


def weighed_nats(tokens: int, head: nn.Module) -> torch.Tensor:
    torch.manual_seed(tokens)
    hidden, weights = torch.randn(tokens, WIDTH), torch.rand(tokens)
    return (token_losses(head, hidden, torch.randint(VOCABULARY, (tokens,))) * weights).sum()


def check_gradients(table: nn.Module, loss, mesh) -> None:
    """Of rows that train: the mean over both processes of what each has of the whole table, twice accumulated."""
    loss(table).backward()
    expected = {name: one.grad.clone() for name, one in table.named_parameters() if one.grad is not None}
    for gradient in expected.values():
        torch.distributed.all_reduce(gradient.div_(2))
    spread(table, mesh, trains=True)
    for _ in range(2):
        loss(table).backward()
    for name, parameter in table.named_parameters():
        assert isinstance(parameter.grad, DTensor)
        torch.testing.assert_close(parameter.grad.full_tensor(), 2 * expected[name], atol=1e-6, rtol=1e-5)


def check_head(head: nn.Module, tokens: int, mesh) -> None:
    hidden = torch.randn(tokens, WIDTH, requires_grad=True)
    targets, weights = torch.randint(VOCABULARY, (tokens,)), torch.rand(tokens)
    logits = head(hidden)
    nats = F.cross_entropy(logits, targets, reduction="none")
    (expected,) = torch.autograd.grad((nats * weights).sum(), hidden)
    spread(head, mesh)
    ours = token_losses(head, hidden, targets)
    torch.testing.assert_close(ours, nats, atol=1e-6, rtol=1e-6)
    (found,) = torch.autograd.grad((ours * weights).sum(), hidden)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(head(hidden), logits, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(token_losses(head, hidden, targets), nats, atol=1e-6, rtol=1e-6)


def test_spread_tables_say_what_whole_ones_say(tmp_path: Path):
    statuses = run_ranks(compare, tmp_path, sharded=True, seconds=60)
    assert statuses == [0, 0], [path.read_text()[-3000:] for path in sorted(tmp_path.iterdir())]
