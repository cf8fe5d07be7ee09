"""What counts as said in new tokens, and what as spelled out."""

import pytest
import torch

from finetune.rows.base_reading import read_parts
from finetune.rows.dataset import Texts, text_dataset
from finetune.rows.emission import CONTINUATION_TOKENS, Written, count_first_choices, count_written, measure_emission
from tests.finetune.extended_models import TEXTS, extend, save_base


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def extended(request, tmp_path_factory):
    return extend(save_base(request.param, tmp_path_factory.mktemp(request.param)))


def _parts(extended):
    return read_parts(extended.tokenizer, extended.first_new_id)


def test_a_token_is_emitted_where_it_stands_and_spelled_out_where_its_parts_do(extended):
    parts, ids = _parts(extended), extended.tokenizer.encode(TEXTS[0])
    new = [id_ for id_ in ids if id_ in parts]
    spelled = [part for id_ in ids for part in parts.get(id_, [id_])]
    half = [
        *ids[: ids.index(new[0]) + 1],
        *(part for id_ in ids[ids.index(new[0]) + 1 :] for part in parts.get(id_, [id_])),
    ]
    count = lambda *texts: count_written(texts, extended.tokenizer, parts.keys())  # noqa: E731
    assert len(new) >= 2
    assert count(ids) == Written(len(new), 0) and count(ids).adoption == 1
    assert count(spelled) == Written(0, len(new)) and count(spelled).adoption == 0
    assert count(half) == Written(1, len(new) - 1)
    assert count(ids, spelled).adoption == 0.5
    assert count(extended.tokenizer.encode("123")).adoption is None


def test_a_new_token_inside_a_longer_one_that_was_not_written_counts_for_both(extended):
    parts = _parts(extended)
    longer = next(merge for merge in reversed(extended.merges) if merge.left in parts and merge.right not in parts)
    written = count_written([[longer.left, longer.right]], extended.tokenizer, parts.keys())
    assert written == Written(1, 1)


def test_first_choices_are_those_of_transformers_logits(extended):
    parts = _parts(extended)
    texts = Texts([" ".join(TEXTS)], [" ".join(TEXTS[:15])], "")
    dataset = text_dataset(texts, extended.tokenizer, block_size=24, blocks_per_batch=2, evaluation_blocks=100)
    right = total = 0
    for micro_batch in dataset.held_out.micro_batches:
        choices = extended.model(micro_batch["input_ids"]).logits.argmax(dim=-1)
        is_new = micro_batch["targets"] >= extended.first_new_id
        right += int((choices == micro_batch["targets"])[is_new].sum())
        total += int(is_new.sum())
    assert count_first_choices(extended.model, parts.keys(), dataset.held_out.micro_batches) == (right, total)
    assert total > 20


def test_a_model_that_says_nothing_but_one_new_token_is_seen_to_say_it(tmp_path):
    extended = extend(save_base("llama", tmp_path))
    new_id = next(id_ for id_ in extended.tokenizer.encode(TEXTS[0]) if id_ >= extended.first_new_id)
    head = torch.nn.Linear(32, len(extended.tokenizer))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias).data[new_id] = 100
    extended.model.set_output_embeddings(head)
    micro_batch = {"input_ids": torch.tensor([[5, 6, 7]]), "targets": torch.tensor([[new_id, 7, new_id + 1]])}
    shown = measure_emission(extended.model, extended.tokenizer, {new_id}, [micro_batch], [[5], [6]], None)
    assert (shown.first_choices, shown.targets) == (1, 1)
    assert shown.written["greedy"].emitted == shown.written["sampled"].emitted == 2 * CONTINUATION_TOKENS
    assert "is the first choice: 100.0% of 1\n" in shown.describe()


def test_replies_end_at_the_end_of_text_and_a_text_without_new_tokens_has_no_adoption(tmp_path):
    extended = extend(save_base("gpt2", tmp_path))
    end = extended.tokenizer.eos_token_id
    head = torch.nn.Linear(32, len(extended.tokenizer))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias).data[end] = 100
    extended.model.set_output_embeddings(head)
    micro_batch = {"input_ids": torch.tensor([[5, 6]]), "targets": torch.tensor([[6, 7]])}
    shown = measure_emission(extended.model, extended.tokenizer, {330}, [micro_batch], [[5], [6]], end)
    assert shown.describe() == (
        "a new token that comes next is the first choice: – of 0\n"
        "new tokens in its own continuations: greedy no new token (0 as one token, 0 spelled out); "
        "sampled no new token (0 as one token, 0 spelled out)"
    )
