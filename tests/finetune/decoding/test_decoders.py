"""Decoding by parts: the logits of transformers for every family, and its own forward for whatever has no parts."""

import copy
import gc
import weakref
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from finetune.decoding.decoders import OwnForward, decoder_for, decodes_by_parts
from scratch_models.decoding.block_decoder import BlockDecoder
from tests.house.repository import ROOT
from tokenizer_ext.huggingface.gguf_base import plain_folder

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LLAMA_3_TURNS = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FAMILIES = {
    "GPT-2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=64, n_embd=32, n_layer=2, n_head=4)),
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "Llama 3": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=LLAMA_3_TURNS, tie_word_embeddings=True)),
    "Mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
    "Qwen2, with biases": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "Qwen3, which norms heads": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16)),
}


def made(family: str) -> Any:
    torch.manual_seed(0)
    model: Any = FAMILIES[family]().eval()
    for parameter in model.parameters():  # biases and norms far from where they start
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def with_adapter(model: Any, targets: list[str], **options: Any) -> Any:
    lora = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **options)
    return peft.get_peft_model(model, lora).eval()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """How far two sets of logits lie apart, as a share of the largest."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.inference_mode()
def largest_difference(model: Any, *, lay_out: bool = True) -> float:
    """Of a decoder's logits from the model's own, over prompts of unequal length and ids that follow one by one."""
    ids = torch.randint(1, 61, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[0] * pad + [1] * (9 - pad) for pad in (0, 2, 5)])
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    decoder, own, differences = decoder_for(model, lay_out=lay_out)(range(3), 2), OwnForward(model), []
    start = 0
    for end in (6, 8, 9):
        seen = ids[:, start:end], positions[:, start:end], mask[:, :end]
        differences.append(relative(decoder.read(*seen), own.read(*seen)))
        if end == 8:
            kept = torch.tensor([0, 2])
            decoder.keep_rows(kept)
            own.keep_rows(kept)
            ids, positions, mask = ids[kept], positions[kept], mask[kept]
        start = end
    return max(differences)


@pytest.mark.parametrize("lay_out", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_give_the_logits_of_transformers(family: str, lay_out: bool) -> None:
    model = made(family)
    assert largest_difference(model, lay_out=lay_out) < 1e-5
    assert decodes_by_parts(model)


@pytest.mark.parametrize(
    ("family", "targets"), [("GPT-2", ["c_attn", "c_fc"]), ("Llama", ["q_proj", "v_proj", "up_proj"])]
)
def test_adapters_are_part_of_it_on_or_off_or_merged(family: str, targets: list[str]) -> None:
    model = with_adapter(made(family), targets, fan_in_fan_out=family == "GPT-2")
    assert largest_difference(model) < 1e-5
    with model.disable_adapter():
        assert largest_difference(model) < 1e-5
    model.merge_adapter()
    assert largest_difference(model) < 1e-5
    assert decodes_by_parts(model)


def test_a_weight_that_changes_is_read_again() -> None:
    model = made("Llama")
    assert largest_difference(model) < 1e-5
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight += 1
    assert largest_difference(model) < 1e-5


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {}], ids=str)
def test_weights_that_an_optimizer_changed_are_read_again(options: dict[str, Any]) -> None:
    model = made("Llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, **options)  # a fused one counts no change
    ids = torch.tensor([[7]])

    def difference_of_one_row() -> float:  # for which weights are copied
        with torch.inference_mode():
            decoder = decoder_for(model, lay_out=True)(range(1), 1)
            return relative(decoder.read(ids, ids * 0, None), model(input_ids=ids).logits[:, -1])

    assert difference_of_one_row() < 1e-5
    for _ in range(2):
        model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
        optimizer.step()
        assert difference_of_one_row() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_not_used_any_more_is_forgotten(family: str) -> None:
    model = with_adapter(made(family), ["c_attn" if family == "GPT-2" else "q_proj"], fan_in_fan_out=family == "GPT-2")
    base = model.get_base_model()
    assert decodes_by_parts(model) and decodes_by_parts(base)
    alive = weakref.ref(base)
    del model, base
    gc.collect()
    assert alive() is None


def test_room_grows_with_the_text() -> None:
    model = made("Llama")
    with torch.inference_mode():
        decoder = decoder_for(model, lay_out=True)(range(1), 1)
        assert isinstance(decoder, BlockDecoder)
        decoder._make_room(1, 2)
        own, ids = OwnForward(model), torch.arange(1, 30)[None]
        for place in range(ids.shape[1]):
            seen = ids[:, place : place + 1], torch.tensor([[place]]), None
            assert relative(decoder.read(*seen), own.read(*seen)) < 1e-5


def other_family() -> Any:
    shape = {name: SHAPE[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape))


def sliding_window() -> Any:
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=4))


def dora() -> Any:
    return with_adapter(made("Llama"), ["q_proj"], use_dora=True)


def watched() -> Any:
    model = made("Llama")
    model.model.layers[0].mlp.register_forward_hook(lambda *_: None)
    return model


def changed_block() -> Any:
    model = made("Llama")
    model.model.layers[1].mlp = nn.Sequential(copy.deepcopy(model.model.layers[1].mlp), nn.Tanh())
    return model


def scaled_block() -> Any:
    model = made("Llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda stream: 2 * type(mlp).forward(mlp, stream)  # has all the parts, and computes something else
    return model


@pytest.mark.parametrize("make", [other_family, sliding_window, dora, watched, changed_block, scaled_block])
def test_what_computes_anything_else_decodes_through_its_own_forward(make: Any) -> None:
    model = make().eval()
    with torch.inference_mode():
        assert isinstance(decoder_for(model, lay_out=True)(range(1), 1), OwnForward)
    assert not decodes_by_parts(model)


SHARED = ROOT.parent / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real chat model is asked for where ../shared/data is")
@pytest.mark.long
def test_a_real_chat_model_decodes_by_parts_and_gives_the_ids_of_transformers() -> None:
    from finetune.replies.generation import generate_ids
    from scratch_models.decoding.sampling_settings import Sampling

    try:
        folder = plain_folder("smollm2")
    except Exception as error:
        pytest.skip(f"SmolLM2 cannot be had here: {error}")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = [list(range(100, 110)), [1, 504, 253, 12]]
    replies = generate_ids(model, prompts, max_new_tokens=6, stop_ids=(), sampling=Sampling(temperature=0))
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(ids, do_sample=False, max_new_tokens=6, eos_token_id=-1, pad_token_id=0)
        assert list(reply.ids) == theirs[0, len(prompt) :].tolist()
    assert decodes_by_parts(model)
