"""Batches: each conversation once an epoch, the same for any number of processes, little filling, nothing cut."""

import random

import pytest
import torch

from configs import InputError
from finetune.chat.batches import ConversationBatches, keep_fitting
from finetune.chat.graft_format import GraftFormat
from finetune.chat.packing import cut_by_tokens, pack, pack_by_tokens, to_row
from finetune.chat.rendered import RenderedConversation
from finetune.conversations.formats import Conversation, Message
from scratch_models.loop.micro_batches import IGNORED_TARGET


def _rendered(length, first):
    """A conversation of `length` ids, the last two of which are learned; its first id tells it from the others."""
    ids = [first, *range(1, length)]
    return RenderedConversation(ids, [False] * (length - 2) + [True, True])


@pytest.fixture
def conversations():
    dice = random.Random(0)
    return [_rendered(min(8 + int(dice.expovariate(1 / 60)), 500), first=1000 + number) for number in range(403)]


def _read(batches, steps, rank=0, world_size=1):
    return [batches.micro_batches(step, rank, world_size) for step in steps]


def _firsts(micro_batches):
    """Which conversations are learned from; a row in which nothing is learned is there for its process alone."""
    return sorted(
        ids[0]
        for batch in micro_batches
        for ids, targets in zip(batch["input_ids"].tolist(), batch["targets"].tolist(), strict=True)
        if any(target != IGNORED_TARGET for target in targets)
    )


def _tensors_equal(left, right):
    return len(left) == len(right) and all(
        torch.equal(one[name], other[name]) for one, other in zip(left, right, strict=True) for name in one
    )


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_an_epoch_reads_every_conversation_once(conversations, epoch):
    batches = ConversationBatches(conversations, 32, 2048, seed=3)
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    read = [first for micro_batches in _read(batches, steps) for first in _firsts(micro_batches)]
    assert len(steps) == 13
    assert sorted(read) == list(range(1000, 1403))


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_step_reads_the_same_conversations_for_any_number_of_processes(conversations, world_size):
    batches = ConversationBatches(conversations, 32, 2048, seed=3)
    for step in range(2 * batches.steps_per_epoch):
        shares = [batches.micro_batches(step, rank, world_size) for rank in range(world_size)]
        assert all(shares), "every process takes part in every step"
        assert sorted(first for share in shares for first in _firsts(share)) == _firsts(
            batches.micro_batches(step, 0, 1)
        )


def test_a_process_without_a_row_takes_part_with_a_row_in_which_nothing_is_learned():
    batches = ConversationBatches([_rendered(9, 1000)], 32, 2048, seed=0)
    (lonely,) = batches.micro_batches(0, 3, 4)
    assert (lonely["targets"] == IGNORED_TARGET).all() and lonely["input_ids"].shape == (1, 8)


def test_a_step_is_a_function_of_seed_and_step_alone(conversations):
    def make(seed):
        return ConversationBatches(conversations, 32, 2048, seed)

    in_order = _read(make(3), range(30))
    jumping, fresh = make(3), make(3)
    for step in [29, 3, 17, 3]:
        assert _tensors_equal(jumping.micro_batches(step, 0, 1), in_order[step])
    assert _tensors_equal(fresh.micro_batches(20, 0, 1), in_order[20])
    assert not _tensors_equal(make(4).micro_batches(0, 0, 1), in_order[0])
    assert [_firsts(step) for step in in_order[:13]] != [_firsts(step) for step in in_order[13:26]], "epochs differ"


def test_rows_of_a_micro_batch_are_of_like_length_and_little_is_filling(conversations):
    batches = ConversationBatches(conversations, 32, 4096, seed=3)
    micro_batches = [batch for step in _read(batches, range(13)) for batch in step]
    places = sum(batch["input_ids"].numel() for batch in micro_batches)
    tokens = sum(len(one.input_ids) - 1 for one in conversations)
    in_given_order = [conversations[start : start + 32] for start in range(0, 403, 32)]
    unsorted_places = sum(len(rows) * max(len(one.input_ids) - 1 for one in rows) for rows in in_given_order)
    assert 1 - tokens / places < 0.15 < 1 - tokens / unsorted_places
    assert len(micro_batches) < 13 * 12, "rows share micro-batches"


def test_every_step_reads_conversations_of_all_lengths(conversations):
    batches = ConversationBatches(conversations, 32, 4096, seed=3)
    lengths = sorted(len(one.input_ids) for one in conversations)
    lower, upper = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    for step in range(batches.steps_per_epoch - 1):  # the last one of the epoch is a remainder
        sizes = [batch["input_ids"].shape[1] for batch in batches.micro_batches(step, 0, 1)]
        assert min(sizes) < lower and max(sizes) > upper


def test_no_micro_batch_is_larger_than_the_limit_unless_it_is_one_row(conversations):
    batches = ConversationBatches(conversations, 32, 256, seed=3)
    sizes = [batch["input_ids"].shape for step in _read(batches, range(13)) for batch in step]
    assert all(rows * tokens <= 256 or rows == 1 for rows, tokens in sizes)
    assert any(tokens > 256 for _, tokens in sizes)
    assert any(rows > 4 for rows, _ in sizes)


def test_cutting_by_tokens_keeps_every_row_in_order_and_wastes_no_room():
    rows = [([0] * length, [0] * length) for length in [3, 9, 9, 10, 10, 10, 45]]
    groups = cut_by_tokens(rows, tokens=40)
    assert [[len(row[0]) for row in group] for group in groups] == [[3], [9, 9, 10, 10], [10], [45]]


def test_a_row_is_rendered_ids_shifted_by_one_and_learns_what_the_mask_says(chat_tokenizer):
    chat = GraftFormat(chat_tokenizer)
    rendered = chat.render(Conversation((Message("user", "the sum?"), Message("assistant", "72")), "p"))
    ids, targets, *_ = to_row(rendered)
    reply = [*chat_tokenizer.encode("72", add_special_tokens=False), chat.end_id]
    assert ids == rendered.input_ids[:-1]
    assert targets == [IGNORED_TARGET] * (len(ids) - len(reply)) + reply
    assert ids[-len(reply)] == chat.role_ids["assistant"], (
        "the first word of a reply is predicted from the turn's token"
    )


def test_what_is_too_long_is_left_out_whole_and_counted(conversations):
    fitting = keep_fitting(conversations, 100)
    longer = [one for one in conversations if len(one.input_ids) > 100]
    assert longer and fitting.too_long == len(longer)
    assert list(fitting.kept) == [one for one in conversations if len(one.input_ids) <= 100]
    assert [conversations[place] for place in fitting.kept.sources] == list(fitting.kept)
    assert keep_fitting(conversations[:1], len(conversations[0].input_ids)).too_long == 0


def test_a_limit_that_nothing_fits_is_refused_with_the_shortest_length():
    with pytest.raises(InputError, match="maximum_tokens 5: none of 2 conversations fits, the shortest has 6 tokens"):
        keep_fitting([_rendered(6, 0), _rendered(9, 0)], 5)


def test_a_conversation_in_which_nothing_is_learned_is_left_out_and_counted(conversations):
    silent = RenderedConversation([1, 2, 3], [False] * 3)
    fitting = keep_fitting([silent, *conversations[:3], silent], 500)
    assert (list(fitting.kept), fitting.unsupervised) == (conversations[:3], 2)
    assert fitting.kept.sources.tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="none of 2 conversations has a token to learn"):
        keep_fitting([silent, silent], 500)


def _apart(micro_batch):
    """The conversations of packed rows: ids and targets of each, cut where the positions begin anew."""
    ids, targets, positions = (micro_batch[name][0].tolist() for name in ("input_ids", "targets", "position_ids"))
    starts = [place for place, position in enumerate(positions) if position == 0]
    ends = [*starts[1:], len(ids)]
    for start, end in zip(starts, ends, strict=True):
        assert positions[start:end] == list(range(end - start))
        yield ids[start:end], targets[start:end]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_packed_rows_hold_the_conversations_of_the_step_whole_and_no_filling(conversations, world_size):
    padded = ConversationBatches(conversations, 32, 1024, seed=3)
    packed = ConversationBatches(conversations, 32, 1024, seed=3, packed=True)
    by_first = {one.input_ids[0]: to_row(one) for one in conversations}
    for step in range(packed.steps_per_epoch):
        shares = [packed.micro_batches(step, rank, world_size) for rank in range(world_size)]
        rows = [row for share in shares for batch in share for row in _apart(batch)]
        learned = [row for row in rows if any(target != IGNORED_TARGET for target in row[1])]
        assert all(row == by_first[row[0][0]] for row in learned)
        assert sorted(row[0][0] for row in learned) == _firsts(padded.micro_batches(step, 0, 1))
        sizes = [batch["input_ids"].shape for share in shares for batch in share]
        assert all(size[0] == 1 and size[1] <= 1024 for size in sizes)


def test_a_process_without_a_row_gets_a_packed_one_in_which_nothing_is_learned():
    (lonely,) = ConversationBatches([_rendered(9, 1000)], 32, 2048, seed=0, packed=True).micro_batches(0, 3, 4)
    assert (lonely["targets"] == IGNORED_TARGET).all()
    assert lonely["position_ids"].tolist() == [list(range(8))]


def test_packs_are_few_and_nearly_full(conversations):
    rows = [to_row(one) for one in conversations]
    packs = pack_by_tokens(rows, 1024)
    tokens = sum(len(row[0]) for row in rows)
    assert sorted(row[0][0] for one in packs for row in one) == list(range(1000, 1403))
    assert all(sum(len(row[0]) for row in one) <= 1024 for one in packs)
    assert len(packs) <= 11 / 9 * -(-tokens // 1024) + 1


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("accumulation_steps", "world_size"), [(1, 1), (8, 1), (32, 1), (4, 2), (100, 1)])
def test_a_process_cuts_its_share_into_as_many_micro_batches_as_asked(
    conversations, accumulation_steps, world_size, packed
):
    batches = ConversationBatches(conversations, 32, 64, seed=3, packed=packed, accumulation_steps=accumulation_steps)
    for rank in range(world_size):
        share = batches.micro_batches(0, rank, world_size)
        assert len(share) == min(accumulation_steps, 32 // world_size)
        if not packed:
            assert {len(batch["input_ids"]) for batch in share} == {max(1, 32 // world_size // accumulation_steps)}
    shares = [batches.micro_batches(0, rank, world_size) for rank in range(world_size)]
    read = sum(int((batch["targets"] != IGNORED_TARGET).sum()) for share in shares for batch in share)
    assert read == 32 * 2


def test_what_follows_the_last_target_of_a_conversation_is_not_read():
    conversations = [
        RenderedConversation([1, 2, 3, 4, 9], [False, False, True, False, False]),
        RenderedConversation([5, 6, 7], [False, True, True]),
    ]
    packed = pack([to_row(one) for one in conversations])
    assert packed["input_ids"].tolist() == [[1, 2, 5, 6]]
    assert packed["targets"].tolist() == [[IGNORED_TARGET, 3, 6, 7]]
    assert packed["position_ids"].tolist() == [[0, 1, 0, 1]]
