"""The base inside an extended model reads as the base itself does, whatever the new rows hold."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from finetune.rows.base_reading import BaseLoss, in_base_ids, old_log_probabilities, old_segment, read_parts
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.extended_models import TEXTS, extend, save_base
from tokenizer_ext.embeddings.tables import separate_new_rows
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

TEXT = " ".join(TEXTS[:3])


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.long)])
def base(request, tmp_path_factory):
    return save_base(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def extended(base):
    return extend(base)


def _whole(tokenizer, text=TEXT):
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    return {"input_ids": ids[:, :-1], "targets": ids[:, 1:]}


def test_parts_turn_extended_ids_into_those_of_the_bases_own_tokenizer(base, extended):
    parts = read_parts(extended.tokenizer, extended.first_new_id)
    assert len(parts) == 20
    micro_batch = _whole(extended.tokenizer)
    assert (micro_batch["input_ids"] >= extended.first_new_id).sum() > 5
    expected = _whole(load_tokenizer(str(base)))
    for name, ids in in_base_ids(micro_batch, parts, longest=None).items():
        assert torch.equal(ids, expected[name])


@pytest.mark.parametrize("separate", [True, False])
def test_its_loss_is_that_of_the_base_with_its_own_tokenizer(base, extended, separate):
    first = extended.first_new_id
    extended.model.get_input_embeddings().weight.data[first:] = 100.0
    extended.model.get_output_embeddings().weight.data[first:] = 100.0
    if separate:
        separate_new_rows(extended.model, first, 20)
    parts = read_parts(extended.tokenizer, first)
    in_base = in_base_ids(_whole(extended.tokenizer), parts, longest=None)
    ours = BaseLoss(extended.model, first)(**in_base)
    expected = _whole(load_tokenizer(str(base)))
    logits = load_model(str(base))(expected["input_ids"]).logits[0]
    torch.testing.assert_close(ours, cross_entropy(logits, expected["targets"][0], reduction="sum"))
    hidden = extended.model.base_model(in_base["input_ids"]).last_hidden_state[0]
    scores = old_log_probabilities(old_segment(extended.model, first), hidden, in_base["targets"][0])
    torch.testing.assert_close(scores, -cross_entropy(logits, expected["targets"][0], reduction="none"))


def test_a_row_too_long_for_the_base_goes_on_in_another_and_loses_no_target(extended):
    parts = read_parts(extended.tokenizer, extended.first_new_id)
    micro_batch = _whole(extended.tokenizer)
    micro_batch["targets"][0, -3:] = IGNORED_TARGET
    whole, cut = (in_base_ids(micro_batch, parts, longest) for longest in (None, 10))
    assert cut["input_ids"].shape == (-(-whole["input_ids"].shape[1] // 10), 10)
    for name in whole:
        assert cut[name].flatten()[: whole[name].numel()].tolist() == whole[name].flatten().tolist()
    assert (cut["targets"].flatten()[whole["targets"].numel() :] == IGNORED_TARGET).all()


def test_only_what_was_supervised_stays_so(extended):
    parts = read_parts(extended.tokenizer, extended.first_new_id)
    micro_batch = _whole(extended.tokenizer)
    new_id = next(id_ for id_ in micro_batch["targets"][0].tolist() if id_ in parts)
    micro_batch["targets"][micro_batch["targets"] != new_id] = IGNORED_TARGET
    assert (micro_batch["targets"] == new_id).any()
    times = int((micro_batch["targets"] == new_id).sum())
    kept = in_base_ids(micro_batch, parts, longest=None)["targets"]
    assert kept[kept != IGNORED_TARGET].tolist() == parts[new_id] * times
