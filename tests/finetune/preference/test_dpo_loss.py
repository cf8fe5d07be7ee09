"""The loss of pairs is the published formula on the model's own log-probabilities, however it is computed."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from finetune.chat.graft_format import GraftFormat
from finetune.engine.engine import start_engine
from finetune.export.saved_model import load_start
from finetune.lora.adapter_shape import Lora
from finetune.preference.batches import PreferenceBatches, count_pairs, render_pairs, weigh_pairs
from finetune.preference.dpo_loss import Objective, PreferenceLoss
from finetune.preference.start_model import prepare_start
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import IGNORED_TARGET
from scratch_models.loop.precision import has_bf16
from tests.finetune.preference_models import adapted, batches_of, pairs
from tests.finetune.tiny_models import save_tiny_base

OBJECTIVES = [
    Objective(beta=0.3),
    Objective(kind="ipo", beta=0.3),
    Objective(beta=0.3, chosen_weight=0.5),
]


def _plain_log_probabilities(model, rendered):
    """Of the reply of one conversation alone, from the model's own logits."""
    ids = torch.tensor([rendered.input_ids])
    of_next = model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
    learned = torch.tensor(rendered.supervised[1:])
    return of_next.gather(1, ids[0, 1:, None])[learned].sum(), int(learned.sum())


def _plain_loss(model, pair, reference, objective):
    (chosen, tokens), (rejected, of_rejected) = (_plain_log_probabilities(model, side) for side in pair)
    left, right = chosen - reference[0], rejected - reference[1]
    if objective.kind == "ipo":
        loss = (left / tokens - right / of_rejected - 1 / (2 * objective.beta)) ** 2
    else:
        loss = -F.logsigmoid(objective.beta * (left - right))
    return loss - objective.chosen_weight * chosen / tokens


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("architecture", ["gpt2", pytest.param("llama", marks=pytest.mark.long)])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=["dpo", "ipo", "with chosen"])
def test_loss_and_gradients_are_those_of_the_formula_pair_by_pair(chat_tokenizer, objective, architecture, packed):
    trainable = adapted(chat_tokenizer, architecture)
    rendered = render_pairs(GraftFormat(chat_tokenizer), pairs(6))
    batches = batches_of(chat_tokenizer, number=6, pairs_per_step=6, packed=packed)
    batches.reference = torch.linspace(-40, -20, 12).view(6, 2)
    trained = [parameter for parameter in trainable.model.parameters() if parameter.requires_grad]
    expected = sum(
        _plain_loss(trainable.model, pair, reference, objective)
        for pair, reference in zip(zip(rendered.chosen, rendered.rejected, strict=True), batches.reference, strict=True)
    )
    loss_model = PreferenceLoss(trainable.model, objective)
    found = sum(loss_model(**micro_batch) for micro_batch in batches.micro_batches(0, 0, 1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for ours, plain in zip(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=["dpo", "ipo", "with chosen"])
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.long), 2, pytest.param(3, marks=pytest.mark.long)])
def test_weights_make_the_weighted_mean_of_the_pairs_over_all_processes(chat_tokenizer, objective, packed, ranks):
    """Against a sum written by hand over pairs one at a time, in double precision: within 1e-6."""
    trainable = adapted(chat_tokenizer)
    trainable.model.double()
    weights = [1.0, 0.5, 0.25, 1.0, 0.1, 0.75, 0.5]
    weighted = [replace(pair, weight=weight) for pair, weight in zip(pairs(7), weights, strict=True)]
    rendered = render_pairs(GraftFormat(chat_tokenizer), weighted)
    batches = PreferenceBatches(rendered, 7, 200, seed=0, packed=packed)
    batches.reference = torch.linspace(-40, -20, 14).view(7, 2)
    losses = [
        _plain_loss(trainable.model, pair, reference.double(), objective)
        for pair, reference in zip(zip(rendered.chosen, rendered.rejected, strict=True), batches.reference, strict=True)
    ]
    expected = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    loss_model = PreferenceLoss(trainable.model, objective)
    read = [micro_batch for rank in range(ranks) for micro_batch in batches.micro_batches(0, rank, ranks)]
    found = sum(loss_model(**micro_batch) for micro_batch in read) / sum(map(weigh_pairs, read))
    assert (
        float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6) and sum(map(count_pairs, read)) == 7
    )
    trained = [parameter for parameter in trainable.model.parameters() if parameter.requires_grad]
    ours, plain = (
        torch.cat([one.flatten() for one in torch.autograd.grad(total, trained)]) for total in (found, expected)
    )
    assert float((ours - plain).norm() / plain.norm()) < 1e-6


def test_pairs_that_all_weigh_one_bring_no_weights_and_one_that_is_not_learned_weighs_nothing(chat_tokenizer):
    assert "pair_weights" not in batches_of(chat_tokenizer).micro_batches(0, 0, 1)[0]
    light = [replace(pair, weight=0.5) for pair in pairs(3)]
    batches = PreferenceBatches(render_pairs(GraftFormat(chat_tokenizer), light), 2, 400, seed=0)
    without = batches.micro_batches(1, 1, 2)[0]
    assert weigh_pairs(without) == 0 and weigh_pairs(batches.micro_batches(1, 0, 2)[0]) == 0.5


def test_the_loss_at_the_start_is_the_logarithm_of_two():
    even = torch.tensor([-3.0, -7.0, -4.0, -9.0])
    assert torch.allclose(Objective().losses(even, even, torch.ones(4)), torch.tensor(2.0).log())


def test_the_worked_example_of_a_pair():
    # beta 0.5, chosen 2 nats likelier than the reference finds it, rejected 1 nat less likely: sigmoid(1.5)
    found = Objective(beta=0.5).losses(torch.tensor([-3.0, -8.0]), torch.tensor([-5.0, -7.0]), torch.tensor([1, 1]))
    assert float(found) == pytest.approx(0.2014133, abs=1e-6)


def test_size_of_micro_batches_filling_and_packing_change_neither_loss_nor_gradients(chat_tokenizer):
    trainable = adapted(chat_tokenizer)
    loss_model = PreferenceLoss(trainable.model, Objective())
    trained = [parameter for parameter in trainable.model.parameters() if parameter.requires_grad]
    gradients = []
    for tokens, packed in ((1, False), (10_000, False), (1, True), (400, True), (10_000, True)):
        batches = batches_of(chat_tokenizer, tokens_per_micro_batch=tokens, packed=packed)
        loss = sum(loss_model(**micro_batch) for micro_batch in batches.micro_batches(0, 0, 1))
        gradients.append(torch.cat([one.flatten() for one in torch.autograd.grad(loss, trained)]))
    for found in gradients[1:]:
        assert float((gradients[0] - found).norm() / gradients[0].norm()) < 1e-5


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_a_pair_without_targets_adds_nothing_and_is_not_counted(chat_tokenizer, packed):
    trainable = adapted(chat_tokenizer)
    micro_batch = batches_of(chat_tokenizer, packed=packed).micro_batches(0, 0, 1)[0]
    micro_batch["targets"] = torch.full_like(micro_batch["targets"], IGNORED_TARGET)
    loss = PreferenceLoss(trainable.model, Objective(chosen_weight=1.0))(**micro_batch)
    loss.backward()
    gradients = [parameter.grad for parameter in trainable.model.parameters() if parameter.grad is not None]
    assert float(loss.detach()) == count_pairs(micro_batch) == 0 and all(bool((one == 0).all()) for one in gradients)


def test_new_rows_of_control_tokens_learn_with_the_pairs(tmp_path):
    start = load_start(str(save_tiny_base(tmp_path)), torch.device("cpu"))
    trainable = prepare_start(*start, Lora(rank=2, alpha=4.0, dropout=0.0))
    micro_batch = batches_of(trainable.tokenizer).micro_batches(0, 0, 1)[0]
    PreferenceLoss(trainable.model, Objective())(**micro_batch).backward()
    rows = trainable.model.get_input_embeddings().new_rows.grad
    assert rows is not None and float(rows.abs().sum()) > 0


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_engine_computes_the_same_log_probabilities(chat_tokenizer, precision, packed):
    if precision == "bf16" and not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16 arithmetic")
    trainable = adapted(chat_tokenizer)
    micro_batch = batches_of(chat_tokenizer, packed=packed).micro_batches(0, 0, 1)[0]
    trainable.model.eval()
    with torch.no_grad():
        before = PreferenceLoss(trainable.model, Objective())(**micro_batch, summed=False)
        settings = LoopSettings(max_steps=1, learning_rate=1.0)
        engine = start_engine(trainable.model, settings, make_accelerator("fp32"), precision=precision)
        during = PreferenceLoss(trainable.model, Objective(), engine)(**micro_batch, summed=False)
        engine.release()
        after = PreferenceLoss(trainable.model, Objective())(**micro_batch, summed=False)
    torch.testing.assert_close(during, before, rtol=1e-5 if precision == "fp32" else 0.03, atol=1e-4)
    assert torch.equal(after, before)
