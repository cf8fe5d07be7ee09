"""The model under training: what of it trains, and that everything else keeps every bit."""

import pytest
import torch

from configs import InputError
from finetune.chat.graft_format import CONTROL_TOKENS, GraftFormat
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_optimizer, make_trainable_model
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.tiny_models import TINY_MODELS, questions
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.embeddings.tables import fold, new_row_parameters
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, to_hf_tokenizer

DOCUMENTS = [asked for asked, _ in questions(80)]
LORA = Lora(rank=4, alpha=8.0, dropout=0.0)


@pytest.fixture(scope="module")
def base_tokenizer():
    bpe = train_bpe(["of no domain: " + " ".join(DOCUMENTS[:4])], 270, special_tokens=["<|endoftext|>"])
    return to_hf_tokenizer(bpe.ranks, bpe.special_tokens)


@pytest.fixture(params=TINY_MODELS)
def make(request, base_tokenizer):
    model = TINY_MODELS[request.param](next_token_id(base_tokenizer))

    def make(documents=DOCUMENTS, new_tokens=10, lora=LORA):
        return model, make_trainable_model(model, base_tokenizer, documents, new_tokens=new_tokens, lora=lora)

    return make


def _train(trainable, steps=5):
    optimizer = make_optimizer(trainable, learning_rate=0.05, new_rows_learning_rate=0.05, weight_decay=0.5)
    loss_model = SupervisedLoss(trainable.model)
    ids = torch.tensor([trainable.tokenizer(DOCUMENTS[0])["input_ids"]])
    targets = torch.cat([ids[:, 1:], torch.full((1, 1), IGNORED_TARGET)], dim=1)
    for _ in range(steps):
        loss_model(ids, targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return ids


def test_old_rows_and_all_other_weights_are_bit_identical_after_training_with_weight_decay(make, base_tokenizer):
    model, trainable = make()
    first_new_id = next_token_id(base_tokenizer)
    before = trainable.extended.certificate.weights_before
    start_rows = [rows.detach().clone() for rows in new_row_parameters(model).values()]
    _train(trainable)
    trained_rows = [rows.detach().clone() for rows in new_row_parameters(model).values()]
    assert all((now != then).any() for now, then in zip(trained_rows, start_rows, strict=True))
    fold(model)
    trainable.adapted.unload()
    assert hash_weights(model, first_new_id) == before
    folded = [model.get_input_embeddings().weight[first_new_id:], model.get_output_embeddings().weight[first_new_id:]]
    for trained, rows in zip(trained_rows, folded, strict=False):  # a tied model has one table
        assert torch.equal(rows, trained)


def test_folding_changes_no_logit(make):
    model, trainable = make()
    ids = _train(trainable)
    before = model(ids).logits
    fold(model)
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-6, atol=1e-6)


def test_learned_tokens_come_first_and_control_tokens_after_them(make, base_tokenizer):
    _, trainable = make()
    first = next_token_id(base_tokenizer)
    assert [merge.token for merge in trainable.extended.merges] == list(range(first, first + 10))
    assert [trainable.tokenizer.convert_tokens_to_ids(token) for token in CONTROL_TOKENS] == list(
        range(first + 10, first + 14)
    )
    GraftFormat(trainable.tokenizer)


def test_a_tokenizer_that_has_control_tokens_keeps_them_and_gets_the_others(chat_tokenizer):
    model = TINY_MODELS["gpt2"](next_token_id(chat_tokenizer))
    trainable = make_trainable_model(model, chat_tokenizer, [], new_tokens=10, lora=LORA)
    assert trainable.tokenizer.get_vocab() == chat_tokenizer.get_vocab()
    assert new_row_parameters(model) == {}


def test_without_documents_no_token_is_learned_whatever_was_asked_for(make):
    _, trainable = make(documents=[], new_tokens=500)
    assert trainable.extended.certificate.new_tokens == 0
    assert trainable.extended.certificate.control_tokens == 4


def test_parameters_are_counted_once_and_those_that_train_are_counted(make):
    model, trainable = make()
    parameters, trained = trainable.count_parameters()
    lora = sum(one.numel() for name, one in model.named_parameters() if "lora_" in name)
    rows = sum(one.numel() for one in new_row_parameters(model).values())
    assert trained == lora + rows
    fold(model)
    assert parameters == sum(one.numel() for one in model.parameters())


def test_without_lora_every_weight_trains_and_no_vector_is_decayed(make):
    model, trainable = make(lora=None)
    assert trainable.adapted is None and all(one.requires_grad for one in model.parameters())
    optimizer = make_optimizer(trainable, 0.1, 0.1, weight_decay=0.5)
    decayed = {id(one) for group in optimizer.param_groups if group["weight_decay"] for one in group["params"]}
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in model.parameters()}
    assert decayed == {id(one) for one in model.parameters() if one.ndim == 2}


def test_new_rows_have_their_own_rate_and_no_decay(make):
    model, trainable = make()
    groups = make_optimizer(trainable, 0.1, 0.3, weight_decay=0.5).param_groups
    rows = {id(one) for one in new_row_parameters(model).values()}
    (theirs,) = [group for group in groups if {id(one) for one in group["params"]} & rows]
    assert {id(one) for one in theirs["params"]} == rows
    assert (theirs["lr"], theirs["weight_decay"]) == (0.3, 0.0)
    assert all(group["lr"] == 0.1 for group in groups if group is not theirs)


def test_a_corpus_that_supports_fewer_tokens_is_refused_and_the_model_is_as_it_was(make, base_tokenizer):
    with pytest.raises(InputError, match="new_tokens: asked for 5000, the corpus supports"):
        make(new_tokens=5000)
