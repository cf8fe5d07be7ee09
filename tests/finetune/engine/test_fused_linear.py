"""A frozen layer with its adapter as one step: peft's output and gradients, and less kept for the backward pass."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from finetune.engine.fused_linear import FrozenProduct, multiply, multiply_with_adapter
from tests.finetune.engine.allocated import most_allocated
from tokenizer_ext.held_weights.quantised_layers import quantise, quantised_layers
from tokenizer_ext.held_weights.stored_layers import hold_as_stored

TOKENS, WIDTH_IN, WIDTH_OUT, RANK = 7, 6, 10, 3


def make(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Values, A and B."""
    torch.manual_seed(0)
    sizes = ((2, TOKENS, WIDTH_IN), (RANK, WIDTH_IN), (WIDTH_OUT, RANK))
    values, down, up = (torch.randn(*size, dtype=dtype, requires_grad=True) for size in sizes)
    return values, down, up


def make_layer(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    layer = Conv1D(WIDTH_OUT, WIDTH_IN) if kind is Conv1D else nn.Linear(WIDTH_IN, WIDTH_OUT)
    return layer.double().requires_grad_(False)


@pytest.mark.parametrize("reads_apart", [False, True])
@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_output_and_gradients_are_those_of_the_written_out_formula(kind, reads_apart: bool):
    layer, (values, down, up) = make_layer(kind), make()
    read = (values.detach() * 2).requires_grad_() if reads_apart else None
    found = multiply_with_adapter(values, read, FrozenProduct(layer, torch.float64), down, up, 0.7)
    expected = layer(values) + 0.7 * (values if read is None else read) @ down.T @ up.T
    torch.testing.assert_close(found, expected)
    places = [one for one in (values, down, up, read) if one is not None]
    upstream = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, places, upstream), torch.autograd.grad(expected, places, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_a_frozen_layer_without_an_adapter_passes_its_gradient_on(kind):
    layer, (values, *_) = make_layer(kind), make()
    found, expected = multiply(values, FrozenProduct(layer, torch.float64)), layer(values)
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad(one.square().sum(), values) for one in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_new_weights_of_the_layer_are_seen_through_the_copy():
    layer, (values, *_) = make_layer(nn.Linear), make()
    frozen = FrozenProduct(layer, torch.bfloat16)
    before = multiply(values, frozen)
    layer.load_state_dict({name: 2 * tensor for name, tensor in layer.state_dict().items()})
    torch.testing.assert_close(multiply(values, frozen), 2 * before)


def test_a_weight_in_half_precision_gives_what_it_gives_in_single_to_the_bit():
    layer = nn.Linear(512, 4096, bias=False).to(torch.bfloat16).requires_grad_(False)
    single = nn.Linear(512, 4096, bias=False).requires_grad_(False)
    single.load_state_dict(layer.state_dict())
    hold_as_stored(layer)
    values = torch.randn(70, 512, requires_grad=True)
    found = [multiply(values, FrozenProduct(one, torch.float32)) for one in (layer, single)]
    assert torch.equal(*found)
    assert torch.equal(*(torch.autograd.grad(one.square().sum(), values)[0] for one in found))


@pytest.mark.parametrize("bits", [8, 4])
def test_less_than_half_of_a_quantised_matrix_is_made_at_once(bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(1024, 4096, bias=False, dtype=torch.bfloat16)])})
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    quantise(model, bits, tmp_path, torch.device("cpu"))
    (layer,) = quantised_layers(model)
    values, frozen = torch.randn(3, 1024, requires_grad=True), FrozenProduct(layer, torch.float32)
    found, whole = multiply(values, frozen), layer.dense(torch.float32)
    torch.testing.assert_close(found, values @ whole.T, rtol=1e-5, atol=1e-5)
    (of_values,) = torch.autograd.grad(found.sum(), values)
    torch.testing.assert_close(of_values, torch.ones_like(found) @ whole, rtol=1e-5, atol=1e-4)
    assert most_allocated(lambda: multiply(values, frozen).sum().backward()) < whole.nbytes / 2


def test_it_keeps_less_for_the_backward_pass_than_peft_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["0"], lora_dropout=0.0))  # type: ignore[arg-type]
    layer = adapted.base_model.model[0]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    values = torch.randn(512, 64, requires_grad=True)
    frozen = FrozenProduct(layer.base_layer, torch.float32)

    def kept_elements(work) -> int:
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            work()
        return sum(kept.values())

    ours = kept_elements(lambda: multiply_with_adapter(values, None, frozen, down, up, 2.0))
    assert ours <= values.numel() + 512 * 4 + 64 * 256 + 4 * 64 + 256 * 4
    assert ours <= kept_elements(lambda: layer(values))
