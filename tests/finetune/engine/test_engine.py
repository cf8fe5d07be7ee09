"""The engine changes how a model computes, not what: losses, gradients, replies, and the weights that are put back."""

from collections.abc import Iterator

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from configs import InputError
from finetune.engine import engine as engine_module
from finetune.engine.engine import Engine, start_engine
from finetune.lora.adapter_shape import Lora
from finetune.lora.lora import attach_lora
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop import precision
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import IGNORED_TARGET
from scratch_models.loop.precision import Probe
from tests.finetune.tiny_models import VOCABULARY, tiny_gpt2, tiny_llama
from tokenizer_ext.embeddings.tables import separate_new_rows

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


@pytest.fixture(autouse=True)
def bf16_is_taken_for_arithmetic_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without it computes the same numbers, only slowly: what the engine does in bf16 is tested on every one."""
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)


def tiny_qwen() -> PreTrainedModel:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)).eval()


def tiny_mistral() -> PreTrainedModel:
    """A window of three tokens in every layer."""
    torch.manual_seed(0)
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=3)).eval()


def dry_gpt2() -> PreTrainedModel:
    """Without dropout."""
    return tiny_gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


MODELS = {"gpt2": dry_gpt2, "llama": tiny_llama, "qwen": tiny_qwen, "mistral": tiny_mistral}


def with_lora(model: PreTrainedModel) -> PreTrainedModel:
    attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0))
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # starts at zero, where the adapter would change nothing
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def with_both(model: PreTrainedModel) -> PreTrainedModel:
    separate_new_rows(model, VOCABULARY - 5, 5)
    return with_lora(model)


def full(model: PreTrainedModel) -> PreTrainedModel:
    return model.requires_grad_(True)


def start(model: PreTrainedModel, **settings):
    return start_engine(model, LoopSettings(max_steps=1, learning_rate=1e-3, **settings), Accelerator(cpu=True))


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Rows of 12, 7, 5 and 9 tokens that are read, in which about half is learned."""
    torch.manual_seed(1)
    input_ids = torch.randint(VOCABULARY, (4, 12))
    targets = torch.randint(VOCABULARY, (4, 12)).masked_fill(torch.rand(4, 12) < 0.5, IGNORED_TARGET)
    for row, length in enumerate((12, 7, 5, 9)):
        targets[row, length:] = IGNORED_TARGET
        targets[row, length - 1] = 3
    return {"input_ids": input_ids, "targets": targets}


@pytest.fixture(autouse=True)
def _own_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine_module, "keep_freed_memory", lambda: None)  # would last for all tests that follow
    yield


@pytest.fixture(autouse=True)
def _bf16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch multiplies bfloat16 on every CPU; what is refused is its speed where the CPU itself cannot.
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)


def loss_and_gradients(
    model: PreTrainedModel, batch: dict[str, Tensor], engine: Engine | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    model.train()
    named = {name: one for name, one in model.named_parameters() if one.requires_grad}
    loss = SupervisedLoss(model, engine)(**batch)
    found = torch.autograd.grad(loss, list(named.values()))
    return loss.detach(), dict(zip(named, found, strict=True))


def in_one_row(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The rows packed, filling included."""
    B, T = batch["input_ids"].shape
    packed = {name: tensor.flatten().unsqueeze(0) for name, tensor in batch.items()}
    return {**packed, "position_ids": torch.arange(T).repeat(B).unsqueeze(0)}


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("trains", [full, with_lora, with_both])
@pytest.mark.parametrize("family", MODELS)
def test_losses_and_gradients_are_those_without_it(family: str, trains, packed: bool, batch):
    model = trains(MODELS[family]())
    expected_loss, expected = loss_and_gradients(model, batch)
    engine = start(model)
    assert engine.packs and engine.packed_attention
    loss, found = loss_and_gradients(model, in_one_row(batch) if packed else batch, engine)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()) + 1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_is_released_is_the_model_that_was_bit_for_bit(family: str, batch):
    model = with_lora(MODELS[family]())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    logits, attention = model(batch["input_ids"]).logits, model.config._attn_implementation
    engine = start(model, precision="bf16", gradient_checkpointing=True)
    loss_and_gradients(model, batch, engine)
    assert not torch.equal(model.eval()(batch["input_ids"]).logits, logits)
    engine.release()
    assert model.config._attn_implementation == attention
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model.eval()(batch["input_ids"]).logits, logits)
    start(model).release()  # and it can be started again


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_speaks_the_same_while_it_is_on(family: str, batch):
    model = with_lora(MODELS[family]())
    asked = {"input_ids": batch["input_ids"], "attention_mask": torch.ones_like(batch["input_ids"])}
    asked["attention_mask"][1:, :4] = 0  # filled up on the left
    expected = model.generate(**asked, max_new_tokens=8, do_sample=False)
    start(model)
    assert torch.equal(model.generate(**asked, max_new_tokens=8, do_sample=False), expected)


def test_bf16_multiplies_in_bf16_and_trains_single_precision(batch):
    model = with_lora(dry_gpt2())
    expected_loss, expected = loss_and_gradients(model, batch)
    engine = start(model, precision="bf16")
    assert engine.facts()["engine"]["precision"] == "bf16"
    loss, found = loss_and_gradients(model, batch, engine)
    assert loss != expected_loss
    torch.testing.assert_close(loss, expected_loss, rtol=5e-3, atol=0)
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert float((found[name] - gradient).norm() / gradient.norm()) < 0.05, name


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_adapters_that_are_switched_off_or_merged_are_followed(chosen: str, batch):
    model = tiny_llama()
    plain = model(batch["input_ids"]).logits
    adapted = attach_lora(model, Lora(rank=4, alpha=8.0, dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned = model(batch["input_ids"]).logits
    start(model, precision=chosen)

    def expect(logits: Tensor) -> None:
        torch.testing.assert_close(
            model(batch["input_ids"]).logits, logits, rtol=0.0, atol=1e-4 if chosen == "fp32" else 0.3
        )

    expect(tuned)
    with adapted.disable_adapter():
        expect(plain)
    adapted.merge_adapter()
    expect(tuned)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_adapters_with_more_to_them_go_their_own_way(options, batch):
    model = tiny_llama()
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    expected_loss, expected = loss_and_gradients(model, batch)
    start(model)
    loss, found = loss_and_gradients(model, batch)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4)


def test_loras_dropout_drops_what_the_adapter_reads(batch):
    model = tiny_llama()
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", lora_dropout=0.999))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-5)
    plain = SupervisedLoss(tiny_llama())(**batch)
    start(model)
    loss, gradients = loss_and_gradients(model, batch)
    torch.testing.assert_close(loss, plain, rtol=1e-3, atol=0)  # the frozen layer read everything
    down = next(gradient for name, gradient in gradients.items() if "lora_A" in name)
    assert (down == 0).all(dim=0).any()  # inputs that were dropped throughout


@pytest.mark.parametrize("trains", [full, with_lora])
def test_recomputed_activations_give_the_same_gradients_dropout_included(trains, batch):
    models = [trains(tiny_gpt2()) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    start(models[0])
    assert start(models[1], gradient_checkpointing=True).facts()["engine"]["gradient_checkpointing"]
    found = []
    for model in models:
        torch.manual_seed(7)
        found.append(loss_and_gradients(model, batch))
    assert torch.equal(found[0][0], found[1][0])
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("is_on", [False, True])
@pytest.mark.parametrize("family", MODELS)
def test_packed_rows_are_the_rows_alone(family: str, is_on: bool, batch):
    model = MODELS[family]()
    loss_model = SupervisedLoss(model, start(model) if is_on else None)
    torch.testing.assert_close(loss_model(**in_one_row(batch)), loss_model(**batch), rtol=1e-6, atol=0)


def test_a_micro_batch_without_anything_to_learn_adds_zero_to_every_gradient(batch):
    model = with_lora(tiny_llama())
    start(model)
    batch["targets"].fill_(IGNORED_TARGET)
    loss, gradients = loss_and_gradients(model, batch)
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients.values())


def test_a_model_whose_attention_is_its_own_keeps_its_rows(batch, monkeypatch):
    model = tiny_llama()
    monkeypatch.setattr(engine_module, "packing_is_exact", lambda model: False)
    engine = start(model)
    assert not engine.facts()["engine"]["rows_laid_end_to_end"] and not engine.facts()["packed"]
    assert "a row for each conversation: packed rows would not give" in engine.describe()
    assert model.config._attn_implementation == "sdpa"
    loss = SupervisedLoss(model, engine)(**batch)
    torch.testing.assert_close(loss, SupervisedLoss(tiny_llama())(**batch))


class Joined(torch.nn.Module):
    """Lets something of each token into the next, wherever that belongs, as a convolution over the row does."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        output: Tensor = self.layer(values)
        return output + 0.1 * torch.nn.functional.pad(output, (0, 0, 1, 0))[:, :-1]


def test_a_model_that_joins_what_is_packed_keeps_its_rows_and_is_not_packed_by_force():
    model = tiny_llama()
    model.model.layers[0].mlp = Joined(model.model.layers[0].mlp)
    engine = start(model)
    assert not engine.packs and not engine.packed_attention and not engine.can_pack
    engine.release()
    with pytest.raises(InputError, match="packing: found always, but LlamaForCausalLM does not keep packed"):
        start_engine(model, LoopSettings(max_steps=1, learning_rate=1e-3), Accelerator(cpu=True), packing="always")


def test_what_conversations_begin_with_is_computed_once_only_where_nothing_is_dropped_of_it():
    assert start(tiny_llama()).shares_prefixes
    assert start(tiny_gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)).shares_prefixes
    assert not start(tiny_gpt2(resid_pdrop=0.1, embd_pdrop=0.0, attn_pdrop=0.0)).shares_prefixes
    dropping, eager = tiny_llama(), tiny_llama()
    dropping.config.attention_dropout = 0.1
    eager.set_attn_implementation("eager")
    assert not start(dropping).shares_prefixes and not start(eager).shares_prefixes


@pytest.mark.parametrize(("packing", "packs"), [("auto", False), ("always", True), ("never", False)])
def test_an_attention_that_is_not_ours_to_exchange_is_packed_under_a_mask_where_that_is_asked(packing, packs, batch):
    model = tiny_llama()
    model.set_attn_implementation("eager")
    expected_loss, expected = loss_and_gradients(model, batch)
    settings = LoopSettings(max_steps=1, learning_rate=1e-3)
    engine = start_engine(model, settings, Accelerator(cpu=True), packing=packing)
    assert (engine.packs, engine.packed_attention) == (packs, False)
    assert engine.describe().endswith("under a mask of all places" if packs else "a row for each conversation")
    loss, found = loss_and_gradients(model, in_one_row(batch) if packs else batch, engine)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)
    engine.release()
    assert model.config._attn_implementation == "eager"


def test_precision_is_measured_unless_a_resumed_run_brings_its_own(monkeypatch):
    probes = [Probe(100.0, 300.0), Probe(100.0, 110.0), Probe(100.0, None)]
    monkeypatch.setattr(engine_module, "probe_precision", lambda device, width: probes.pop(0))
    settings = LoopSettings(max_steps=1, learning_rate=1e-3, precision="auto")
    chosen = []
    for _ in range(3):
        engine = start_engine(tiny_llama(), settings, Accelerator(cpu=True))
        chosen.append(engine.facts()["engine"]["precision"])
        assert engine.facts()["engine"]["probe"]["fp32_gflops"] == 100.0
    assert chosen == ["bf16", "fp32", "fp32"]
    engine = start_engine(tiny_llama(), settings, Accelerator(cpu=True), precision="fp32")
    assert engine.facts()["engine"]["precision"] == "fp32"
    assert engine.facts()["engine"]["probe"] is None


def test_bf16_is_refused_where_the_device_lacks_it(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    with pytest.raises(InputError, match="precision: found bf16, but cpu here has no bfloat16 arithmetic"):
        start(tiny_llama(), precision="bf16")
    assert start(tiny_llama(), precision="auto").facts()["engine"]["precision"] == "fp32"


@pytest.mark.long
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_compiled_blocks_give_the_same_loss(packed: bool, batch):
    model = with_lora(tiny_llama())
    expected_loss, expected = loss_and_gradients(model, batch)
    engine = start(model, compile=True)
    assert engine.facts()["engine"]["compiled_blocks"] == 2
    loss, found = loss_and_gradients(model, in_one_row(batch) if packed else batch, engine)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)
    engine.release()
    assert all(module._compiled_call_impl is None for module in model.modules())


@pytest.mark.parametrize(("packing", "at_once"), [("always", [512, 1024]), ("never", [512, 4096])])
def test_packed_rows_of_a_cpu_hold_few_tokens_and_never_more_than_is_allowed(packing, at_once):
    settings = LoopSettings(max_steps=1, learning_rate=1e-3, precision="fp32")
    engine = start_engine(tiny_llama(), settings, Accelerator(cpu=True), packing=packing)
    assert [engine.tokens_at_once(limit) for limit in (512, 4096)] == at_once
