"""Blocks of a corpus: every target is the id that follows, and the same ones for any number of processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs import InputError
from scratch_models.corpus.blocks import RandomBlocks, held_out_blocks, split_by_position
from scratch_models.loop.micro_batches import IGNORED_TARGET


@pytest.mark.parametrize("count", [1, 10, 11, 99])
def test_the_first_nine_tenths_are_for_training(count: int) -> None:
    ids = torch.arange(count)
    training, held_out = split_by_position(ids)
    assert len(training) == int(0.9 * count)
    assert torch.equal(torch.cat([training, held_out]), ids)


def test_a_target_is_the_id_that_follows() -> None:
    (batch,) = RandomBlocks(torch.arange(1000), 8, 32, seed=0).micro_batches(step=0, rank=0, world_size=1)
    assert batch["input_ids"].shape == batch["targets"].shape == (32, 8)
    assert torch.equal(batch["targets"], batch["input_ids"] + 1)


def test_blocks_reach_the_first_and_the_last_id() -> None:
    (batch,) = RandomBlocks(torch.arange(10), 8, 64, seed=0).micro_batches(step=0, rank=0, world_size=1)
    assert batch["input_ids"].min() == 0
    assert batch["targets"].max() == 9


def test_a_corpus_of_one_block_has_one_place_to_read() -> None:
    (batch,) = RandomBlocks(torch.arange(9), 8, 4, seed=0).micro_batches(step=7, rank=0, world_size=1)
    assert torch.equal(batch["targets"], torch.arange(1, 9).repeat(4, 1))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int32, torch.int64])
def test_narrow_ids_give_the_same_blocks(dtype: torch.dtype) -> None:
    ids = torch.arange(500)
    (expected,) = RandomBlocks(ids, 8, 4, seed=3).micro_batches(step=1, rank=0, world_size=1)
    (batch,) = RandomBlocks(ids.to(dtype), 8, 4, seed=3).micro_batches(step=1, rank=0, world_size=1)
    assert batch["input_ids"].dtype == batch["targets"].dtype == torch.int64
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(held_out_blocks(ids.to(dtype), 8, 4)[0]["targets"], held_out_blocks(ids, 8, 4)[0]["targets"])


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_share_one_global_batch(world_size: int) -> None:
    blocks = RandomBlocks(torch.arange(1000), 8, 5, seed=1)
    (whole,) = blocks.micro_batches(step=4, rank=0, world_size=1)
    shares = [blocks.micro_batches(step=4, rank=rank, world_size=world_size)[0] for rank in range(world_size)]
    for rank, share in enumerate(shares):
        assert torch.equal(share["input_ids"], whole["input_ids"][rank::world_size])
    assert sum(len(share["input_ids"]) for share in shares) == 5


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("at_once", [1, 2, 5, 7, 16])
def test_micro_batches_of_any_size_hold_the_same_blocks_in_the_same_order(at_once: int, world_size: int) -> None:
    whole, cut = (RandomBlocks(torch.arange(1000), 8, 16, 1, blocks_per_micro_batch=size) for size in (None, at_once))
    for rank in range(world_size):
        (expected,) = whole.micro_batches(4, rank, world_size)
        found = cut.micro_batches(4, rank, world_size)
        assert [len(batch["targets"]) for batch in found[:-1]] == [at_once] * (len(found) - 1)
        assert 1 <= len(found[-1]["targets"]) <= at_once
        for name, tensor in expected.items():
            assert torch.equal(torch.cat([batch[name] for batch in found]), tensor)


def test_blocks_depend_on_seed_and_step_alone() -> None:
    def first_ids(seed: int, step: int) -> list[int]:
        blocks = RandomBlocks(torch.arange(10**6), 8, 16, seed)
        return blocks.micro_batches(step, rank=0, world_size=1)[0]["input_ids"][:, 0].tolist()

    torch.manual_seed(0)
    once = first_ids(1, 2)
    torch.manual_seed(99)
    assert first_ids(1, 2) == once
    assert not set(once) & set(first_ids(2, 1))
    assert not set(once) & set(first_ids(1, 3))


def test_a_corpus_shorter_than_a_block_is_refused_with_both_lengths() -> None:
    with pytest.raises(InputError, match="has 8 tokens, expected at least 9 for one block of 8"):
        RandomBlocks(torch.arange(8), 8, 4, seed=0)


def test_more_processes_than_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="2 blocks per batch do not reach 3 processes"):
        RandomBlocks(torch.arange(100), 8, 2, seed=0).micro_batches(step=0, rank=0, world_size=3)


@given(count=st.integers(2, 60), block_size=st.integers(1, 9), blocks_per_batch=st.integers(1, 4))
def test_every_held_out_target_comes_exactly_once(count: int, block_size: int, blocks_per_batch: int) -> None:
    ids = torch.arange(count)
    batches = held_out_blocks(ids, block_size, blocks_per_batch)
    assert all(batch["input_ids"].shape == batch["targets"].shape for batch in batches)
    assert all(len(batch["targets"]) <= blocks_per_batch for batch in batches)
    input_ids = torch.cat([batch["input_ids"].flatten() for batch in batches])
    targets = torch.cat([batch["targets"].flatten() for batch in batches])
    learned = targets != IGNORED_TARGET
    assert torch.equal(targets[learned], ids[1:])
    assert torch.equal(input_ids[learned], ids[:-1])


def test_a_held_out_part_without_a_target_is_refused() -> None:
    with pytest.raises(InputError, match="held-out part of the corpus has 1 tokens"):
        held_out_blocks(torch.arange(1), 8, 4)
