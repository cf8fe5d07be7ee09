"""The loss: transformers' own on the full logits, computed where something is learned and nowhere else."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma2Config, Gemma2ForCausalLM, RobertaConfig, RobertaForCausalLM

from configs import InputError
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.losses import supervised_loss
from finetune.losses.chunked_cross_entropy import summed_cross_entropy
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.tiny_models import TINY_MODELS, VOCABULARY, tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import separate_new_rows


def _plain(model):
    return model


def _with_lora(model):
    attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # starts at zero, where the adapter would change nothing
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _with_new_rows(model):
    separate_new_rows(model, VOCABULARY - 5, 5)
    return model


def _with_both(model):
    return _with_lora(_with_new_rows(model))


@pytest.fixture(params=TINY_MODELS)
def plain_model(request):
    return TINY_MODELS[request.param]()


@pytest.fixture(params=[_plain, _with_lora, _with_new_rows, _with_both])
def model(request, plain_model):
    return request.param(plain_model)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    input_ids = torch.randint(VOCABULARY, (4, 20))
    following = torch.cat([input_ids[:, 1:], torch.randint(VOCABULARY, (4, 1))], dim=1)
    return {"input_ids": input_ids, "targets": following.masked_fill(torch.rand(4, 20) < 0.6, IGNORED_TARGET)}


def test_it_is_the_loss_that_transformers_computes_on_all_logits_and_so_are_its_gradients(model, batch):
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = SupervisedLoss(model)(**batch)
    our_gradients = torch.autograd.grad(ours, parameters)
    labels = torch.cat([torch.full((4, 1), IGNORED_TARGET), batch["targets"][:, :-1]], dim=1)
    # transformers compares the logits of a place with the label of the next, and takes the sum over the number given.
    last = torch.full((4, 1), 0)
    theirs = model(
        input_ids=torch.cat([batch["input_ids"], last], dim=1),
        labels=torch.cat([labels, batch["targets"][:, -1:]], dim=1),
        num_items_in_batch=torch.tensor(1.0),
    ).loss
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for our_gradient, their_gradient in zip(our_gradients, torch.autograd.grad(theirs, parameters), strict=True):
        torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-5)


def test_filling_on_the_right_changes_nothing(model, batch):
    loss_model = SupervisedLoss(model)
    filled = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 7), value=3),
        "targets": torch.nn.functional.pad(batch["targets"], (0, 7), value=IGNORED_TARGET),
    }
    torch.testing.assert_close(loss_model(**filled), loss_model(**batch), rtol=1e-6, atol=0)


def test_a_micro_batch_without_a_target_has_loss_0_and_gradients_0(model, batch):
    batch["targets"].fill_(IGNORED_TARGET)
    loss = SupervisedLoss(model)(**batch)
    loss.backward()
    assert loss.item() == 0.0
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained and all(parameter.grad is not None and not parameter.grad.any() for parameter in trained)


def test_the_head_reads_the_supervised_places_alone(model, batch, monkeypatch):
    seen = []

    def spy(hidden, targets, segments, weights=None):
        seen.append((hidden.shape, targets, sum(len(weight) for weight, _ in segments)))
        return summed_cross_entropy(hidden, targets, segments)

    monkeypatch.setattr(supervised_loss, "summed_cross_entropy", spy)
    SupervisedLoss(model)(**batch)
    learned = batch["targets"][batch["targets"] != IGNORED_TARGET]
    assert 0 < len(learned) < batch["targets"].numel()
    ((shape, targets, rows),) = seen
    assert (shape, rows) == ((len(learned), 32), VOCABULARY)
    assert targets.equal(learned)


def test_an_adapter_on_the_head_itself_takes_part(batch):
    model = tiny_llama()
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"]))
    torch.nn.init.normal_(model.lm_head.lora_B["default"].weight)
    logits = adapted(batch["input_ids"]).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="sum")
    torch.testing.assert_close(SupervisedLoss(model)(**batch), expected, rtol=1e-6, atol=0)
    weights = torch.linspace(0, 1, batch["targets"].numel()).view_as(batch["targets"])
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="none")
    weighted = SupervisedLoss(model)(**batch, weights=weights)
    torch.testing.assert_close(weighted, (each * weights.flatten()).sum(), rtol=1e-6, atol=0)


def test_it_works_on_a_model_that_peft_wrapped_itself(batch):
    model = tiny_gpt2()
    plain = SupervisedLoss(model)(**batch)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    assert SupervisedLoss(adapted.get_base_model())(**batch).item() == plain.item()


def test_a_check_of_the_model_leaves_it_in_training():
    assert SupervisedLoss(tiny_gpt2(resid_pdrop=0.5).train()).model.training


def _gemma_2():
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY}
    return Gemma2ForCausalLM(Gemma2Config(**shape, initializer_range=1.0, final_logit_softcapping=30.0))


def _roberta():
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return RobertaForCausalLM(RobertaConfig(**shape, vocab_size=VOCABULARY, is_decoder=True))


@pytest.mark.parametrize("make", [_gemma_2, _roberta], ids=["capped logits", "a layer before the head"])
def test_a_model_whose_logits_are_not_its_heads_is_refused(make):
    with pytest.raises(InputError, match="logits are not its head's"):
        SupervisedLoss(make())


@pytest.mark.parametrize("prepare", [_plain, _with_new_rows])
def test_under_autocast_frozen_tables_are_cast_once_and_again_when_they_change(prepare, plain_model, batch):
    model = prepare(plain_model)
    model.get_input_embeddings().requires_grad_(False)
    model.get_output_embeddings().requires_grad_(False)
    loss_model = SupervisedLoss(model)
    head = model.get_output_embeddings()
    table = getattr(head, "head", head).weight
    with torch.autocast("cpu", torch.bfloat16):
        first = loss_model(**batch)
        assert torch.equal(loss_model(**batch), first)
        with torch.no_grad():
            table.mul_(2.0)
        second = loss_model(**batch)
        assert torch.equal(second, SupervisedLoss(model)(**batch))
    assert abs(float(second - first)) > 0.1
    torch.testing.assert_close(second, loss_model(**batch), rtol=1e-2, atol=0)  # in single precision
