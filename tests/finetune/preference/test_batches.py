"""Micro-batches of pairs: the reply alone is compared, every pair is read once an epoch, whoever reads it."""

import torch

from finetune.chat.graft_format import GraftFormat
from finetune.conversations.pairs import to_pair
from finetune.preference.batches import count_pairs, render_pairs
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.preference_models import batches_of, pairs


def test_what_is_compared_is_the_reply_and_its_end(chat_tokenizer):
    chat = GraftFormat(chat_tokenizer)
    prompt = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<|end|> is text here"},
        {"role": "user", "content": "b"},
    ]
    another = to_pair({"prompt": "c", "chosen": "d", "rejected": "e"}, "x:1")
    asked = to_pair({"prompt": prompt, "chosen": "good", "rejected": "worse"}, "x:2")
    rendered = render_pairs(chat, [another, asked])
    for side, reply in ((rendered.chosen[1], "good"), (rendered.rejected[1], "worse")):
        assert chat_tokenizer.decode(_compared(side)) == f"{reply}<|end|>"
        assert side.input_ids[: side.supervised.index(True)] == chat.render_prompt(asked.prompt)


def test_rows_are_all_chosen_then_all_rejected_with_the_reference_of_each(chat_tokenizer):
    batches = batches_of(chat_tokenizer)
    batches.reference = torch.arange(48.0).view(24, 2)
    for micro_batch in batches.micro_batches(0, 0, 1):
        chosen, rejected = micro_batch["reference"].chunk(2)
        assert torch.equal(chosen + 1, rejected)
        for row, pair in enumerate((chosen / 2).int().tolist()):
            of_chosen = [id_ for id_ in micro_batch["targets"][row].tolist() if id_ != IGNORED_TARGET]
            assert of_chosen == _compared(batches.rendered.chosen[pair])


def _compared(rendered):
    return [id_ for id_, learned in zip(rendered.input_ids, rendered.supervised, strict=True) if learned]


def _read(batches, steps, processes):
    """The references of what each step reads, which number the pairs."""
    return [
        sorted(
            number
            for rank in range(processes)
            for micro_batch in batches.micro_batches(step, rank, processes)
            if count_pairs(micro_batch)
            for number in micro_batch["reference"].chunk(2)[0].tolist()
        )
        for step in range(steps)
    ]


def test_every_pair_is_read_once_an_epoch_for_any_number_of_processes_and_size_of_micro_batches(chat_tokenizer):
    numbers = torch.arange(24.0).repeat_interleave(2).view(24, 2)
    read = {}
    for processes, tokens, packed in ((1, 400, False), (2, 400, False), (5, 4000, True), (1, 400, True), (1, 1, True)):
        batches = batches_of(chat_tokenizer, pairs_per_step=7, tokens_per_micro_batch=tokens, packed=packed)
        batches.reference = numbers
        read[processes, tokens, packed] = _read(batches, 8, processes)
    first, *others = read.values()
    assert all(other == first for other in others)
    assert sorted(number for step in first[:4] for number in step) == list(range(24)) and first[:4] != first[4:]


def test_a_process_without_a_pair_takes_part_without_a_target(chat_tokenizer):
    batches = batches_of(chat_tokenizer, number=3, pairs_per_step=2)
    micro_batches = batches.micro_batches(1, 1, 2)
    assert len(micro_batches) == 1 and count_pairs(micro_batches[0]) == 0


def test_the_pairs_that_some_steps_read_are_known_before(chat_tokenizer):
    batches = batches_of(chat_tokenizer, pairs_per_step=7)
    batches.reference = torch.arange(24.0).repeat_interleave(2).view(24, 2)
    for steps in (1, 2, 4, 5):
        assert batches.read_in(steps) == sorted({int(n) for step in _read(batches, steps, 1) for n in step})


def test_shares_of_all_pairs_hold_each_once_and_are_as_many_for_every_process(chat_tokenizer):
    batches = batches_of(chat_tokenizer, tokens_per_micro_batch=150)
    shares = [[numbers for numbers, _ in batches.share_of(range(24), rank, 3)] for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(number for share in shares for numbers in share for number in numbers) == list(range(24))


def test_pairs_of_like_length_share_a_micro_batch_within_the_limit(chat_tokenizer):
    batches = batches_of(chat_tokenizer, tokens_per_micro_batch=300)
    sizes = [one["input_ids"].shape for one in batches.micro_batches(0, 0, 1)]
    assert all(rows * tokens <= 300 or rows == 2 for rows, tokens in sizes) and len(pairs()) == 24


def test_packed_pairs_are_whole_in_one_row_within_the_limit(chat_tokenizer):
    batches = batches_of(chat_tokenizer, tokens_per_micro_batch=300, packed=True)
    micro_batches = batches.micro_batches(0, 0, 1)
    for micro_batch in micro_batches:
        rows, tokens = micro_batch["input_ids"].shape
        assert rows == 1 and (tokens <= 300 or len(micro_batch["reference"]) == 2)
        assert int((micro_batch["position_ids"] == 0).sum()) == len(micro_batch["reference"])
    padded = batches_of(chat_tokenizer, tokens_per_micro_batch=300).micro_batches(0, 0, 1)
    assert len(micro_batches) <= len(padded) and sum(map(count_pairs, micro_batches)) == sum(map(count_pairs, padded))
