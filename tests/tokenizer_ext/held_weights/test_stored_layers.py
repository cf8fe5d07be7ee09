"""A model whose matrices are held in half precision says, and learns, what the same numbers in single precision say."""

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from tests.finetune.engine.allocated import most_allocated
from tokenizer_ext.held_weights.stored_layers import (
    HALF,
    StoredEmbedding,
    StoredLinear,
    computes_in,
    hold_as_stored,
    is_linear,
    seen_in_single,
)

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "max_position_embeddings": 64,
}
HEADS = {"head_dim": 8}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "tied llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES),
    "qwen2, with biases": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, **HEADS),
    "gemma2": Gemma2Config(**SIZES, **HEADS),
    "gemma3, which scales its lookup": Gemma3TextConfig(**SIZES, **HEADS),
    "gpt2, its matrices turned": GPT2Config(n_embd=32, n_head=4, n_layer=2, vocab_size=120, n_positions=64),
    "experts": Qwen3MoeConfig(**SIZES, **HEADS, num_experts=4, moe_intermediate_size=16, num_experts_per_tok=2),
}
IDS = torch.arange(24).view(2, 12) * 5 % 120


@pytest.fixture(params=CONFIGS, scope="module")
def pair(request, tmp_path_factory):
    """A folder in bfloat16, read in single precision and held as it is stored."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[request.param]).to(torch.bfloat16)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    single = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    held = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    hold_as_stored(held)
    return single, held


def test_it_says_the_same_to_the_bit(pair):
    single, held = pair
    assert torch.equal(held(IDS).logits, single(IDS).logits)


def test_its_matrices_stay_in_half_and_all_else_is_single(pair):
    _, held = pair
    stored = [parameter for parameter in held.parameters() if parameter.dtype in HALF]
    assert computes_in(held) == torch.float32
    assert held.get_input_embeddings().weight.dtype == torch.bfloat16
    assert {parameter.ndim for parameter in stored} == {2}
    assert all(parameter.dtype == torch.float32 for parameter in held.parameters() if parameter.ndim == 1)


def test_the_gradient_of_what_it_reads_is_the_same_to_the_bit(pair):
    gradients = []
    for model in pair:
        vectors = model.get_input_embeddings()(IDS).detach().requires_grad_(True)
        model(inputs_embeds=vectors).logits.square().sum().backward()
        gradients.append(vectors.grad)
    assert torch.equal(*gradients)


def test_no_matrix_in_single_precision_is_kept_for_the_backward_pass():
    layer, kept = nn.Linear(40, 30, bias=False).to(torch.bfloat16).requires_grad_(False), []
    hold_as_stored(layer)
    values = torch.randn(5, 40, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda packed: packed):
        layer(values)
    assert isinstance(layer, StoredLinear) and kept == []


def test_less_than_half_of_a_matrix_is_ever_in_single_precision():
    layer = nn.Linear(1024, 4096, bias=False).to(torch.bfloat16).requires_grad_(False)
    hold_as_stored(layer)
    values = torch.randn(3, 1024, requires_grad=True)
    assert most_allocated(lambda: layer(values).sum().backward()) < 4 * layer.weight.numel() / 2


def test_under_autocast_a_product_is_made_in_its_type():
    layer, expected = nn.Linear(40, 30).to(torch.bfloat16), nn.Linear(40, 30)
    expected.load_state_dict(layer.float().state_dict())
    hold_as_stored(layer.to(torch.bfloat16).requires_grad_(False))
    values = torch.randn(5, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(values)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected(values), rtol=2e-2, atol=2e-2)


def test_a_bias_and_a_matrix_that_train_get_their_gradients():
    plain = nn.Linear(6, 4)
    layer = copy.deepcopy(plain).to(torch.bfloat16)
    plain.load_state_dict({name: tensor.float() for name, tensor in layer.state_dict().items()})
    hold_as_stored(layer)
    values = torch.randn(3, 6)
    for one in (plain, layer):
        one(values).square().sum().backward()
    of_layer, of_plain = ({name: one.grad for name, one in model.named_parameters()} for model in (layer, plain))
    torch.testing.assert_close(of_layer["bias"], of_plain["bias"])
    torch.testing.assert_close(of_layer["weight"], of_plain["weight"], rtol=1e-2, atol=1e-2, check_dtype=False)


def test_a_model_that_is_stored_in_single_precision_stays_as_it_is():
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    held = hold_as_stored(model)
    assert (held.stored, held.widened) == (0, 0) and type(model.lm_head) is nn.Linear


def test_what_is_held_still_counts_as_linear_and_as_a_lookup_alone_where_it_is():
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]).to(torch.bfloat16)
    hold_as_stored(model)
    assert is_linear(model.lm_head) and isinstance(model.get_input_embeddings(), StoredEmbedding)
    assert not is_linear(model.get_input_embeddings())


def test_while_peft_looks_the_matrices_seem_single_and_come_back_frozen():
    model = nn.Sequential(nn.Linear(4, 3).to(torch.bfloat16))
    hold_as_stored(model)
    before = model[0].weight
    with seen_in_single(model):
        assert model[0].weight.dtype == torch.float32 and model[0].weight.shape == (3, 4)
    assert model[0].weight is before and not before.requires_grad
