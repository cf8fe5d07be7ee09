"""A served model is looked into as what its name stands for, and the model that answers is left as it was."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from configs import InputError
from finetune.export.saved_model import load_assistant
from finetune.service.looking import KEPT, ModelsLookedInto
from finetune.service.own_forward import own_forward
from finetune.serving.model_pool import ModelPool
from scratch_models.looking.transformers_reading import read_with_transformers
from tests.finetune.serving.served import save_adapter, save_models
from tests.finetune.tiny_models import save_tiny_base

PROMPT = "What colour has the apple number 3?"


@pytest.fixture(scope="module")
def pool():
    pool = ModelPool()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A GPT-2 with an adapter, a Llama with one."""
    folder = tmp_path_factory.mktemp("models")
    gpt2 = save_models(folder / "gpt2", adapters=1)
    llama = save_tiny_base(folder / "llama")
    (llama / "generation_config.json").unlink()
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=320, num_hidden_layers=2, max_position_embeddings=96, initializer_range=0.2, **shape
    )
    LlamaForCausalLM(config).save_pretrained(llama)
    return [*gpt2, str(llama), str(save_adapter(llama, folder / "adapter", 1))]


def test_what_is_looked_at_computes_what_the_model_computes_alone_on_the_weights_in_the_pool(names, pool):
    logits = []
    for name in names:
        served = pool.open(name).result()
        twin = own_forward(served)
        alone, tokenizer = load_assistant(name)
        ids = torch.tensor([tokenizer.encode(PROMPT)])
        with torch.inference_mode():
            logits.append(alone(ids).logits)
            torch.testing.assert_close(twin(ids).logits, logits[-1], rtol=0, atol=1e-5)
        places = {tensor.data_ptr() for tensor in served.side.model.parameters()}
        assert {tensor.data_ptr() for tensor in twin.parameters()} == places
    assert (logits[0] - logits[1]).abs().max() > 0.1 < (logits[2] - logits[3]).abs().max()  # the adapters do something


def test_attention_and_lens_are_those_of_the_assistant_and_the_model_in_the_pool_stays_as_it_is(names, pool):
    into = ModelsLookedInto(lambda name: pool.open(name).result())
    for name in names:
        served = pool.open(name).result()
        found = into.look(name, PROMPT)
        alone, tokenizer = load_assistant(name)
        known = read_with_transformers(alone, tokenizer.encode(PROMPT), name)
        torch.testing.assert_close(found.attention, torch.stack(list(known.attention)), rtol=0, atol=1e-5)
        assert known.head is not None
        lens = into.look_through_lens(name, PROMPT).lens
        assert [stage[-1]["top"][0]["id"] for stage in lens] == [
            int(known.head(normed)[-1].argmax()) for normed in known.normed
        ]
        assert found.following[-1][0]["id"] == lens[-1][-1]["top"][0]["id"]
        assert served.side.model.config._attn_implementation != "eager"
        assert not any(module._forward_hooks for module in served.side.model.modules())


def test_what_was_found_is_kept_for_the_next_question_and_not_for_ever(names, pool):
    opened: list[str] = []

    def open_model(name: str):
        opened.append(name)
        return pool.open(name).result()

    into = ModelsLookedInto(open_model)
    first = into.look(names[0], PROMPT)
    assert into.look(names[0], PROMPT) is first
    assert len(opened) == 1
    assert into.look_through_lens(names[0], PROMPT).lens and into.look(names[0], PROMPT).lens
    for number in range(KEPT):
        into.look(names[0], f"{PROMPT} {number}")
    into.look(names[0], PROMPT)
    assert len(opened) == KEPT + 2


@pytest.mark.parametrize(("prompt", "said"), [("", "prompt: is empty"), ("7 " * 200, "expected at most 96")])
def test_a_prompt_that_cannot_be_read_is_refused_in_words(names, pool, prompt: str, said: str):
    with pytest.raises(InputError, match=said):
        ModelsLookedInto(lambda name: pool.open(name).result()).look(names[0], prompt)
