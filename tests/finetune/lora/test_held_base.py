"""How a base is held while an adapter trains: what is chosen, what is refused, and that it trains the same."""

import json
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from configs import InputError
from finetune.engine.engine import start_engine
from finetune.export.adapter_base import read_adapter_base
from finetune.export.final_folder import save_assistant
from finetune.export.receipt import merge_with_receipt
from finetune.export.saved_model import load_start
from finetune.lora import held_base
from finetune.lora.adapter_shape import BaseBits, Lora
from finetune.lora.held_base import HeldAs
from finetune.lora.trainable_model import make_trainable_model
from finetune.losses.supervised_loss import SupervisedLoss
from finetune.preference.start_model import read_original
from scratch_models.loop.devices import make_accelerator
from scratch_models.loop.loop_settings import LoopSettings
from tests.finetune.trained_runs import DOCUMENTS, base_model, base_tokenizer
from tokenizer_ext.embeddings.tables import new_row_parameters
from tokenizer_ext.extension.certificate import read_certificate
from tokenizer_ext.held_weights.quantised_layers import held_bits

CPU = torch.device("cpu")
IDS = torch.arange(40).view(2, 20)
TEMPLATE = "{% for m in messages %}{{ m['role'] ~ ': ' ~ m['content'] ~ '<|endoftext|>' }}{% endfor %}"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = base_tokenizer(with_control_tokens=True)
    tokenizer.chat_template = TEMPLATE
    model = base_model("llama", tokenizer, tied=False).to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=3)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _trainable(base: Path, bits: BaseBits, new_tokens: int = 0, **options):
    torch.manual_seed(0)
    start = load_start(base, CPU, HeldAs(bits, options=options))
    lora = Lora(rank=4, alpha=8.0, dropout=0.0, options=options)
    documents = DOCUMENTS if new_tokens else []
    return make_trainable_model(*start, documents, new_tokens=new_tokens, lora=lora)


def _train(trainable, steps: int = 3) -> list[float]:
    """Losses of some steps, and what trains moved."""
    settings = LoopSettings(max_steps=1, learning_rate=1e-3)
    engine = start_engine(trainable.model, settings, make_accelerator("fp32"))
    loss_model = SupervisedLoss(trainable.model, engine)
    trained = [one for one in trainable.model.parameters() if one.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2), []
    for _ in range(steps):
        loss = loss_model(IDS[:, :-1], IDS[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    engine.release()
    return losses


def test_as_stored_it_starts_and_trains_as_in_single_precision(base):
    single, stored = (_trainable(base, bits) for bits in (32, 16))
    assert held_bits(stored.model) == 16
    theirs = dict(single.model.named_parameters())
    for name, parameter in stored.model.named_parameters():
        if parameter.requires_grad:
            assert parameter.dtype == torch.float32 and torch.equal(parameter, theirs[name]), name
    assert _train(stored) == pytest.approx(_train(single), rel=1e-5)


@pytest.mark.parametrize("options", [{"use_dora": True}, pytest.param({"bias": "lora_only"}, marks=pytest.mark.long)])
def test_variants_train_as_in_single_precision_too(base, options):
    assert _train(_trainable(base, 16, **options)) == pytest.approx(_train(_trainable(base, 32, **options)), rel=1e-3)


@pytest.mark.parametrize("bits", [16, pytest.param(8, marks=pytest.mark.long), 4])
def test_the_base_is_named_by_the_hash_of_what_is_on_the_disk(base, tmp_path, bits):
    if bits < 16:
        pytest.importorskip("bitsandbytes")
    trainable = _trainable(base, bits)
    _train(trainable)
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final", trainable.extended)
    of_single = _trainable(base, 32).hashes()["base_sha256"]
    record = read_adapter_base(tmp_path / "final")
    assert record is not None
    assert (record.weights_sha256, record.base_bits, record.reopened) == (of_single, bits, True)


@pytest.mark.parametrize("bits", [16, 4])
def test_new_rows_train_in_single_precision_and_the_base_beside_them_keeps_its_bits(base, tmp_path, bits):
    if bits < 16:
        pytest.importorskip("bitsandbytes")
    trainable = _trainable(base, bits, new_tokens=8)
    rows = new_row_parameters(trainable.model)
    assert {parameter.dtype for parameter in rows.values()} == {torch.float32}
    assert all(torch.equal(one, one.to(torch.bfloat16).float()) for one in rows.values()), (
        "as the table would have them"
    )
    losses = _train(trainable)
    assert losses[-1] < losses[0]
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final", trainable.extended)
    certificate = read_certificate(tmp_path / "final" / "base")
    assert certificate is not None and certificate.reopened
    assert certificate.weights_before == certificate.weights_after
    assert json.loads((tmp_path / "final" / "base" / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_adapter_of_four_bits_is_merged_into_either_base_and_said_to_be_off_the_stored_one(base, tmp_path):
    pytest.importorskip("bitsandbytes")
    trainable = _trainable(base, 4)
    _train(trainable)
    final = tmp_path / "final"
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, final, trainable.extended)
    onto_stored = merge_with_receipt(final, tmp_path / "stored")
    onto_rounded = merge_with_receipt(final, tmp_path / "rounded", onto="quantised")
    assert onto_stored.trained_in_bits == onto_rounded.trained_in_bits == 4
    assert onto_stored.from_trained is not None and onto_rounded.from_trained is not None
    assert onto_stored.largest_difference <= 1e-4 < onto_stored.from_trained
    assert onto_rounded.from_trained <= 1e-4 and onto_rounded.same_choice_as_trained == 1.0


def test_an_adapter_of_a_base_that_was_not_quantised_is_not_merged_into_one(base, tmp_path):
    trainable = _trainable(base, 16)
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final", trainable.extended)
    with pytest.raises(InputError, match="was not quantised"):
        merge_with_receipt(tmp_path / "final", tmp_path / "merged", onto="quantised")


def test_the_reference_of_preferences_is_held_as_the_base_under_the_adapter_is(base):
    pytest.importorskip("bitsandbytes")
    original = read_original(str(base), CPU, held_as=HeldAs(4))
    adapted = _trainable(base, 4).adapted
    with torch.no_grad(), adapted.disable_adapter():
        torch.testing.assert_close(original(IDS).logits, adapted.eval()(IDS).logits)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says which pages of a file are held")
def test_of_a_base_that_is_quantised_hardly_a_page_of_its_matrices_is_ever_held(tmp_path):
    pytest.importorskip("bitsandbytes")
    tokenizer = base_tokenizer(with_control_tokens=True)
    sizes = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 3, "num_attention_heads": 4}
    wide = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=len(tokenizer))).to(torch.bfloat16)
    tokenizer.save_pretrained(tmp_path)
    wide.save_pretrained(tmp_path)
    model, _ = load_start(tmp_path, CPU, HeldAs(4))
    file = tmp_path / "model.safetensors"
    assert held_bits(model) == 4
    assert 0 < _bytes_held_of(file) < file.stat().st_size / 4


def _bytes_held_of(file: Path) -> int:
    held, is_its = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            is_its = line.endswith(str(file))
        elif is_its and line.startswith("Rss:"):
            held += 1024 * int(line.split()[1])
    return held


REFUSED = {
    "bits of what trains": (HeldAs(4, trains_all=True), torch.bfloat16, "--method full"),
    "half of what is stored in single": (HeldAs(16), torch.float32, "stored in float32"),
    "a start that changes the base": (HeldAs(16, options={"init_lora_weights": "pissa"}), torch.bfloat16, "pissa"),
    "a variant that reads the base": (HeldAs(4, options={"use_dora": True}), torch.bfloat16, "use_dora"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_combined_is_refused_by_name(case):
    held_as, stored_as, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        held_as.choose(stored_as, 1000, CPU)


def test_quantised_and_sharded_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="sharded launch"):
        HeldAs(4).choose(torch.bfloat16, 1000, CPU)


def test_without_bitsandbytes_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"graft-lm\[bits\]"):
        HeldAs(8).choose(torch.bfloat16, 1000, CPU)


def test_an_adapter_as_base_is_not_quantised(base, tmp_path):
    trainable = _trainable(base, 16)
    save_assistant(trainable.model, trainable.adapted, trainable.tokenizer, tmp_path / "final", trainable.extended)
    pytest.importorskip("bitsandbytes")
    with pytest.raises(InputError, match="python -m finetune\\.merge"):
        load_start(tmp_path / "final", CPU, HeldAs(4))
    assert held_bits(load_start(tmp_path / "final", CPU, HeldAs(16))[0]) == 16


def test_left_to_itself_a_half_is_held_so_unless_single_fits_easily_where_it_is_computed_in(monkeypatch):
    monkeypatch.setattr(held_base, "has_bf16", lambda device: False)
    assert HeldAs().choose(torch.bfloat16, 1000, CPU) == 32
    assert HeldAs().choose(torch.bfloat16, 10**13, CPU) == 16
    assert HeldAs().choose(torch.float32, 10**13, CPU) == 32
    assert HeldAs(trains_all=True).choose(torch.bfloat16, 10**13, CPU) == 32
    monkeypatch.setattr(held_base, "has_bf16", lambda device: True)
    assert HeldAs().choose(torch.bfloat16, 1000, CPU) == 16
