import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from configs import InputError
from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.rungs.gpt import GPT, GPTConfig
from scratch_models.rungs.gpt2_weights import load_gpt2
from scratch_models.rungs.low_rank import LowRankLinear, attach_low_rank, merge_low_rank

RANK, ALPHA = 4, 12.0
PEFT_NAMES = {  # of the layers that GPT and GPT-2 have in common
    "attention.query_key_value": "attn.c_attn",
    "attention.projection": "attn.c_proj",
    "mlp.expand": "mlp.c_fc",
    "mlp.contract": "mlp.c_proj",
}
TARGETS = list(PEFT_NAMES)


def random_ids(rows: int = 2, tokens: int = 16, vocabulary_size: int = 60) -> Tensor:
    return torch.randint(vocabulary_size, (rows, tokens), generator=torch.Generator().manual_seed(1))


def small_gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(vocabulary_size=60, block_size=16, layers=2, heads=2, width=16)).eval()


def updates(model: nn.Module) -> dict[str, LowRankLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LowRankLinear)}


@torch.no_grad()
def draw_updates(model: nn.Module) -> None:
    """Updates as after some training: B is no longer zeros."""
    generator = torch.Generator().manual_seed(2)
    for update in updates(model).values():
        for weight in (update.lora_A, update.lora_B):
            weight.copy_(0.05 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))


def with_peft(folder: str, updates_of: GPT) -> nn.Module:
    """GPT-2 of transformers with peft's LoRA on the same layers, and the same numbers in it."""
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(PEFT_NAMES.values()), fan_in_fan_out=True
    )
    base = GPT2LMHeadModel.from_pretrained(folder, dtype=updates_of.lm_head.weight.dtype)
    theirs: nn.Module = get_peft_model(base, config).eval()
    parameters = dict(theirs.named_parameters())
    for name, parameter in by_peft_name(updates_of).items():
        parameters[name].data.copy_(parameter.data)
    return theirs


def by_peft_name(model: GPT) -> dict[str, nn.Parameter]:
    """What trains, by the names that peft gives it in transformers' GPT-2."""
    named = {}
    for name, update in updates(model).items():
        _, layer, target = name.split(".", maxsplit=2)
        theirs = f"base_model.model.transformer.h.{layer}.{PEFT_NAMES[target]}"
        named[f"{theirs}.lora_A.default.weight"] = update.lora_A
        named[f"{theirs}.lora_B.default.weight"] = update.lora_B
    return named


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param(torch.float32, 1e-6, marks=pytest.mark.long), (torch.float64, 1e-12)]
)
def test_logits_and_gradients_on_a_trained_model_are_those_of_peft(dtype: torch.dtype, tolerance: float) -> None:
    ours = load_gpt2(EMBEDDED_BASE).to(dtype)
    attach_low_rank(ours, TARGETS, RANK, ALPHA)
    draw_updates(ours)
    theirs = with_peft(str(EMBEDDED_BASE), ours)
    ids = random_ids(vocabulary_size=ours.config.vocabulary_size)
    logits, expected = ours(ids), theirs(ids).logits
    _assert_close(logits, expected, tolerance)
    for some in (logits, expected):
        F.cross_entropy(some[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    trained = by_peft_name(ours)
    theirs_trained = {name: parameter for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    assert trained.keys() == theirs_trained.keys() and len(trained) == 2 * len(TARGETS) * ours.config.layers
    for name, parameter in trained.items():
        _assert_close(parameter.grad, theirs_trained[name].grad, tolerance)


def _assert_close(found: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    """Equal but for so much, or, of numbers above 1, such a share of the largest: what a sum of floats can hold."""
    assert found is not None and expected is not None and found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


@torch.no_grad()
def test_before_training_the_model_is_to_the_bit_what_it_was() -> None:
    model = small_gpt()
    before = model(random_ids())
    attach_low_rank(model, TARGETS, RANK, ALPHA)
    assert torch.equal(model(random_ids()), before)


def test_training_moves_the_updates_alone_and_lowers_the_loss() -> None:
    model, ids = small_gpt(), random_ids()
    frozen = {name: weight.clone() for name, weight in model.state_dict().items()}
    attach_low_rank(model, TARGETS, RANK, ALPHA)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    state = {name.replace(".frozen.", "."): weight for name, weight in model.state_dict().items()}
    assert all(torch.equal(state[name], weight) for name, weight in frozen.items())
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        name for name in model.state_dict() if "lora_" in name
    }


@torch.no_grad()
def test_merged_it_has_its_first_layers_again_and_the_new_logits() -> None:
    model = small_gpt().double()
    names = list(model.state_dict())
    attach_low_rank(model, TARGETS, RANK, ALPHA)
    draw_updates(model)
    updated = model(random_ids())
    merge_low_rank(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(random_ids()), updated, rtol=0, atol=1e-12)
    assert not torch.allclose(small_gpt().double()(random_ids()), updated, atol=1e-3)


@pytest.mark.parametrize(
    ("targets", "rank", "message"),
    [
        (["attention.query"], 4, r"attention.query: no linear layer is called so, expected one of .*mlp.expand"),
        (["jection"], 4, "jection: no linear layer"),  # only whole names end a name
        (["projection"], 0, "rank is 0, expected at least 1"),
        (["lm_head"], 4, "lm_head: another layer reads the same weight"),
    ],
)
def test_what_cannot_be_adapted_is_refused_and_nothing_changes(targets: list[str], rank: int, message: str) -> None:
    model = small_gpt()
    before = copy.deepcopy(model)
    with pytest.raises(InputError, match=message):
        attach_low_rank(model, targets, rank, ALPHA)
    assert str(model) == str(before)
    assert all(parameter.requires_grad for parameter in model.parameters())
