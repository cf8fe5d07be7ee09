"""Every block is read once an epoch, in the shares that were asked for, whatever the step that a run begins with."""

from collections import Counter

import pytest

from finetune.pretraining.block_order import BlockOrder, shuffled_place


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000])
def test_a_shuffle_is_a_permutation_and_another_key_another_one(size):
    orders = [[shuffled_place(place, size, 5, key) for place in range(size)] for key in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(size))
    assert size < 7 or orders[0] != orders[1] != list(range(size))


def test_an_epoch_of_a_text_reads_each_of_its_blocks_once_and_the_next_in_another_order():
    order = BlockOrder([8 * 50 + 5], [1.0], block_size=8, seed=3)
    assert order.blocks_of(0) == 50
    epochs = [[start for _, start in order.starts(50 * epoch, 50 * (epoch + 1))] for epoch in range(2)]
    for starts in epochs:
        spare = min(starts)
        assert sorted(starts) == [spare + 8 * number for number in range(50)] and spare + 8 * 50 + 1 <= 8 * 50 + 5
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("weights", [[1.0], [1, 0.3], [5, 3, 0.1]])
@pytest.mark.parametrize("per_step", [1, 8])
def test_every_stretch_of_steps_has_the_shares_that_were_asked_for_up_to_a_block(weights, per_step):
    shares = [weight / sum(weights) for weight in weights]
    order = BlockOrder([999] * len(weights), shares, block_size=8, seed=0)
    read = Counter[int]()
    for step in range(200):
        found = order.starts(step * per_step, (step + 1) * per_step)
        assert len(found) == per_step
        read.update(text for text, _ in found)
        assert all(abs(read[text] - share * (step + 1) * per_step) <= 1 for text, share in enumerate(shares))


def test_what_a_step_reads_depends_on_nothing_but_its_number():
    order = BlockOrder([10_000, 999], [0.7, 0.3], block_size=16, seed=1)
    assert order.starts(0, 40)[:0] == [] and order.starts(24, 32) == order.starts(24, 32)
    one_by_one = sorted(start for number in range(40) for start in order.starts(number, number + 1))
    assert one_by_one == sorted(order.starts(0, 40))
