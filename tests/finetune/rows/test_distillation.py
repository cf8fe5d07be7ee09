"""Distilled rows agree with the base: on hidden states after a new token, and on how likely it is."""

import pytest
import torch

from finetune.rows.base_reading import read_parts
from finetune.rows.dataset import Texts, text_dataset
from finetune.rows.distillation import DistillationLoss, distill_rows
from finetune.rows.training import make_row_optimizer
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from tests.finetune.extended_models import TEXTS, extend, save_base
from tokenizer_ext.embeddings.tables import fold, separate_new_rows
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer

TEXT = " ".join(TEXTS[7:9])


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.long)])
def base(request, tmp_path_factory):
    return save_base(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def extended(base):
    extended = extend(base)
    separate_new_rows(extended.model, extended.first_new_id, len(extended.merges))
    return extended


def _loss(extended):
    return DistillationLoss(extended.model, read_parts(extended.tokenizer, extended.first_new_id))


def _rows(ids):
    return {"input_ids": torch.tensor([ids]), "targets": torch.tensor([[*ids[1:], ids[0]]])}


@torch.no_grad()
def _by_hand(base, extended, text):
    """The loss from transformers' own outputs of both models, text by text."""
    ids = extended.tokenizer.encode(text)
    tokenizer, model = load_tokenizer(str(base)), load_model(str(base))
    read = extended.model(torch.tensor([ids]), output_hidden_states=True)
    hidden, total, seen_new = read.hidden_states[-1][0], 0.0, False
    base_ids = tokenizer.encode(text)
    taught = model(torch.tensor([base_ids]), output_hidden_states=True)
    taught_hidden, taught_scores = taught.hidden_states[-1][0], taught.logits[0].log_softmax(dim=-1)
    for place, id_ in enumerate(ids):
        start, end = (len(tokenizer.encode(extended.tokenizer.decode(ids[:stop]))) for stop in (place, place + 1))
        seen_new |= id_ >= extended.first_new_id
        if seen_new:
            wanted = taught_hidden[end - 1]
            total += ((hidden[place] - wanted).square().sum() / wanted.square().sum()).item()
        if id_ >= extended.first_new_id and place:
            of_parts = sum(taught_scores[at - 1, base_ids[at]].item() for at in range(start, end))
            total += (read.logits[0, place - 1].log_softmax(dim=-1)[id_].item() - of_parts) ** 2
    return total


def test_the_loss_is_what_both_models_say_of_the_text_by_hand(base, extended):
    ids = extended.tokenizer.encode(TEXT)
    assert sum(id_ >= extended.first_new_id for id_ in ids) >= 3
    ours = _loss(extended)(**_rows(ids)).item()
    assert ours == pytest.approx(_by_hand(base, extended, TEXT), rel=1e-4)


def test_filling_and_neighbours_in_a_batch_change_nothing(extended):
    loss, ids = _loss(extended), extended.tokenizer.encode(TEXT)
    short = ids[: len(ids) // 2]
    alone = loss(**_rows(ids)) + loss(**_rows(short))
    filled = [*short, *[0] * (len(ids) - len(short))]
    targets = [*short[1:], short[0], *[-100] * (len(ids) - len(short))]
    both = {"input_ids": torch.tensor([ids, filled]), "targets": torch.tensor([[*ids[1:], ids[0]], targets])}
    torch.testing.assert_close(loss(**both), alone)


def test_a_text_without_new_tokens_teaches_nothing_and_still_gives_every_row_a_gradient(extended):
    loss = _loss(extended)
    nothing = loss(**_rows([5, 6, 7]))
    nothing.backward()
    assert nothing.item() == 0
    trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None and not parameter.grad.any() for parameter in trained)


def test_dropout_stays_off_in_training(extended):
    for module in extended.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    loss, rows = _loss(extended).train(), _rows(extended.tokenizer.encode(TEXT))
    assert torch.equal(loss(**rows), loss(**rows))


def test_a_row_longer_than_the_base_can_read_is_cut_where_it_ends(extended):
    new_id = extended.first_new_id
    length = len(read_parts(extended.tokenizer, new_id)[new_id])
    fitting = 96 // length
    loss = _loss(extended)
    torch.testing.assert_close(loss(**_rows([new_id] * 96)), loss(**_rows([new_id] * fitting)))


def test_distillation_lowers_the_disagreement_on_other_text_and_moves_only_new_rows(extended):
    model, first = extended.model, extended.first_new_id
    fold(model)
    before = hash_weights(model, first)
    separate_new_rows(model, first, len(extended.merges))
    texts = Texts(["\n".join(TEXTS[20:])], ["\n".join(TEXTS[:20])], "")
    dataset = text_dataset(texts, extended.tokenizer, block_size=24, blocks_per_batch=8, evaluation_blocks=10)
    loss, rows = _loss(extended), dataset.held_out.micro_batches[0]
    start = loss(**rows).item()
    settings = LoopSettings(max_steps=60, learning_rate=0.05)
    optimizer = make_row_optimizer(model, 0.05, None, 0.0)
    parts = read_parts(extended.tokenizer, first)
    distill_rows(model, parts, dataset.make_batches(0), optimizer, settings, make_accelerator("fp32"))
    assert loss(**rows).item() < 0.5 * start
    fold(model)
    assert hash_weights(model, first) == before
