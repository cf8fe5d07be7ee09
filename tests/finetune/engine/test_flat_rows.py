"""Conversations end to end: nothing that is learned is lost, and nothing else is read than what it needs."""

import torch

from finetune.engine.padding_free import lay_end_to_end
from scratch_models.loop.micro_batches import IGNORED_TARGET

N = IGNORED_TARGET


def test_filling_and_what_follows_the_last_target_is_left_out():
    rows = lay_end_to_end(torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]]), torch.tensor([[N, 3, N, N], [6, 7, N, N]]))
    assert rows.input_ids.tolist() == [[1, 2, 5, 6]]
    assert rows.targets.tolist() == [[N, 3, 6, 7]]
    assert rows.position_ids.tolist() == [[0, 1, 0, 1]]
    assert rows.lengths.tolist() == [2, 2]


def test_a_row_may_hold_several_conversations():
    rows = lay_end_to_end(
        torch.tensor([[1, 2, 3, 4, 5, 6]]),
        torch.tensor([[N, 3, N, 5, 6, N]]),
        torch.tensor([[0, 1, 2, 0, 1, 2]]),
    )
    assert rows.input_ids.tolist() == [[1, 2, 4, 5]]
    assert rows.lengths.tolist() == [2, 2]


def test_a_conversation_without_a_target_is_left_out():
    rows = lay_end_to_end(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[N, N], [4, 5]]))
    assert rows.input_ids.tolist() == [[3, 4]]
    assert rows.lengths.tolist() == [2]


def test_one_token_is_left_where_nothing_is_learned():
    rows = lay_end_to_end(torch.tensor([[1, 2], [3, 4]]), torch.full((2, 2), N))
    assert rows.input_ids.tolist() == [[1]]
    assert rows.targets.tolist() == [[N]]
    assert rows.lengths.tolist() == [1]


def test_a_last_conversation_without_targets_fills_up_to_a_multiple():
    ids, targets = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[-100, 7, -100], [9, 4, -100]])
    plain, filled = lay_end_to_end(ids, targets), lay_end_to_end(ids, targets, multiple=8)
    assert filled.lengths.tolist() == [*plain.lengths.tolist(), 4]
    assert filled.targets.tolist() == [[*plain.targets[0].tolist(), *[-100] * 4]]
    assert filled.input_ids.shape == filled.position_ids.shape == (1, 8)
    assert filled.input_ids[0, :4].tolist() == plain.input_ids[0].tolist()
    assert lay_end_to_end(ids, targets, multiple=4).lengths.tolist() == plain.lengths.tolist()
