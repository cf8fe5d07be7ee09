"""The reference is the model as it was before it learned, wherever that comes from."""

import gc
import weakref

import pytest
import torch

from finetune.engine.engine import start_engine
from finetune.export.saved_model import load_start
from finetune.lora.adapter_shape import Lora
from finetune.preference.dpo_loss import Objective, PreferenceLoss
from finetune.preference.reference import (
    describe_reference,
    pair_log_probabilities,
    read_reference,
    reference_model,
    write_reference,
)
from finetune.preference.start_model import prepare_start, read_original
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from tests.finetune.preference_models import adapted, batches_of, move
from tests.finetune.tiny_models import TINY_MODELS, save_tiny_base

CPU = torch.device("cpu")


def _ask(model, batches):
    loss_model = PreferenceLoss(model, Objective())
    return pair_log_probabilities(loss_model, batches, range(len(batches)), make_accelerator("fp32"))


def _never():
    raise AssertionError("the original is not read")


def test_the_adapter_switched_off_is_the_base_also_after_training(chat_tokenizer):
    batches = batches_of(chat_tokenizer)
    untouched = adapted(chat_tokenizer, moved=False)
    assert untouched.adapted is not None
    expected = _ask(untouched.adapted.unload(), batches)
    trainable = adapted(chat_tokenizer)
    assert describe_reference(trainable) == "the adapter switched off"
    with reference_model(trainable, None, _never) as (model, _):
        assert torch.equal(_ask(model, batches), expected)
    assert not torch.allclose(_ask(trainable.model, batches), expected, atol=0.1)


def test_what_trained_before_trains_again_after_the_reference_was_asked(chat_tokenizer):
    trainable = adapted(chat_tokenizer)
    before = [name for name, one in trainable.model.named_parameters() if one.requires_grad]
    with reference_model(trainable, None, _never):
        pass
    assert [name for name, one in trainable.model.named_parameters() if one.requires_grad] == before


@pytest.mark.parametrize("options", [{"init_lora_weights": "pissa"}, {}], ids=["pissa", "new rows"])
def test_where_switching_off_does_not_give_the_base_back_the_original_is_read(tmp_path, options):
    base = str(save_tiny_base(tmp_path, initializer_range=0.2))
    start = load_start(base, CPU)
    expected_of = prepare_start(*load_start(base, CPU), lora=None)
    batches = batches_of(expected_of.tokenizer)
    trainable = prepare_start(*start, Lora(rank=4, alpha=8.0, dropout=0.0, options=options))
    assert describe_reference(trainable) == "the original model, read once more"
    move(trainable.model)  # what learns is another model by now
    with reference_model(trainable, None, lambda: (read_original(base, CPU), None)) as (model, _):
        assert torch.equal(_ask(model, batches), _ask(expected_of.model, batches))
    assert trainable.adapted is not None
    with trainable.adapted.disable_adapter():
        assert not torch.allclose(_ask(trainable.model, batches), _ask(expected_of.model, batches), atol=1e-3)


def test_the_original_is_dropped_once_it_was_asked(tmp_path):
    base, read = str(save_tiny_base(tmp_path)), []

    def read_and_start():
        original = read_original(base, CPU)
        settings = LoopSettings(max_steps=1, learning_rate=1.0)
        engine = start_engine(original, settings, make_accelerator("fp32"), precision="fp32")
        read.append(weakref.ref(original))
        return original, engine

    trainable = prepare_start(*load_start(base, CPU), Lora(rank=4, alpha=8.0, dropout=0.0))
    with reference_model(trainable, None, read_and_start):
        assert read[0]() is not None
    gc.collect()
    assert read[0]() is None, "no second model while the first one learns"


def test_a_model_that_trains_as_a_whole_is_its_own_reference_before_the_first_step(chat_tokenizer, tmp_path):
    trainable = prepare_start(*load_start(str(save_tiny_base(tmp_path)), CPU), lora=None)
    assert describe_reference(trainable) == "the model before its first step"
    with reference_model(trainable, None, _never) as (model, _):
        assert model is trainable.model


def test_pairs_that_are_not_asked_about_have_no_reference(chat_tokenizer):
    trainable, batches = adapted(chat_tokenizer), batches_of(chat_tokenizer)
    found = pair_log_probabilities(
        PreferenceLoss(trainable.model, Objective()), batches, [3, 5], make_accelerator("fp32")
    )
    assert found.isnan().any(dim=1).logical_not().nonzero().flatten().tolist() == [3, 5]


def test_a_reference_is_kept_for_a_resumed_run_and_a_damaged_one_is_not_used(tmp_path):
    found = [torch.randn(5, 2), torch.randn(3, 2)]
    write_reference(found, tmp_path)
    read = read_reference(tmp_path, [5, 3])
    assert read is not None and all(map(torch.equal, read, found))
    assert read_reference(tmp_path, [5, 4]) is None and read_reference(tmp_path / "none", [5, 3]) is None
    (tmp_path / "reference.safetensors").write_bytes(b"{}")
    assert read_reference(tmp_path, [5, 3]) is None


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_dropout_of_the_base_makes_no_difference_from_the_reference(chat_tokenizer, architecture):
    model = TINY_MODELS[architecture](len(chat_tokenizer))
    model.config.attention_dropout = 0.5
    for layer in model.modules():
        if hasattr(layer, "attention_dropout"):
            layer.attention_dropout = 0.5
    trainable = prepare_start(model, chat_tokenizer, Lora(rank=4, alpha=8.0, dropout=0.0))
    micro_batch = batches_of(chat_tokenizer).micro_batches(0, 0, 1)[0]
    loss_model = PreferenceLoss(trainable.model, Objective())
    found = [loss_model.train(mode)(**micro_batch, summed=False) for mode in (True, False)]
    torch.testing.assert_close(found[0], found[1])
    assert architecture == "llama" or trainable.model.config.attn_pdrop == 0.1, "what is saved has its dropout"
