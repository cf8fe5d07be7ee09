"""A plain adapter on a real vocabulary: the base's own tokenizer and template, opened and asked by plain libraries."""

from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GenerationConfig

from finetune.chat.choose_format import choose_format
from finetune.export.final_folder import save_assistant
from finetune.export.saved_model import load_assistant, load_start
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_trainable_model
from tests.real_tokenizers import real_model
from tokenizer_ext.extension.certificate import read_certificate

TEXTS = ["2023 and 650841823", "hello world  x\n\n\ty", "Café déjà vu — 123 😊", "<table> a\n\n\n b", " leading"]
ASKED = [{"role": "user", "content": "What is  2 + 2?"}]


def _tune(base: Path, final: Path) -> int:
    """Writes the assistant of a base, as if it were trained, and gives the number of new ids."""
    model, tokenizer = load_start(base)
    lora = Lora(rank=2, alpha=4.0, dropout=0.0)
    trainable = make_trainable_model(model, tokenizer, [], new_tokens=0, lora=lora)
    chat = choose_format(trainable.tokenizer, generation_config=model.generation_config)
    with torch.no_grad():
        for parameter in trainable.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    adapted, extended = trainable.adapted, trainable.extended
    own_stops = chat.stop_ids if chat.name == "base" else ()
    save_assistant(trainable.model, adapted, trainable.tokenizer, final, extended, own_stops=own_stops)
    return extended.plan.new_ids


@pytest.mark.long
@pytest.mark.parametrize("family", ["qwen3", "llama3_1", "gemma3"])
def test_an_instruct_model_is_tuned_in_its_own_template_and_asked_by_plain_libraries(family, tmp_path):
    base, final = real_model(family, tmp_path / "base"), tmp_path / "run" / "final"
    assert _tune(base, final) == 0
    sizes = {path.name: path.stat().st_size for path in final.iterdir()}
    adapter, tokenizer_size = sizes.pop("adapter_model.safetensors"), (base / "tokenizer.json").stat().st_size
    assert sum(sizes.values()) <= tokenizer_size + 100_000 and adapter < 100_000
    before, after = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(final)
    published = Tokenizer.from_file(str(base / "tokenizer.json"))
    for text in TEXTS:
        ids = after(text, add_special_tokens=False)["input_ids"]
        assert ids == published.encode(text, add_special_tokens=False).ids
    assert after.chat_template == before.chat_template and after.get_vocab() == before.get_vocab()
    model = AutoPeftModelForCausalLM.from_pretrained(final).eval()
    model.generation_config = GenerationConfig.from_pretrained(final)
    asked = after.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert model.generate(**asked, max_new_tokens=2, do_sample=False).shape[1] > asked["input_ids"].shape[1]
    ours, _ = load_assistant(final)
    assert torch.equal(ours(asked["input_ids"]).logits, model(asked["input_ids"]).logits)


@pytest.mark.long
def test_a_base_without_a_template_gets_control_tokens_in_a_family_without_byte_level_bpe(tmp_path):
    base, final = real_model("llama2", tmp_path / "base"), tmp_path / "run" / "final"
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    assert _tune(base, final) == 4
    certificate = read_certificate(final / "base")
    assert certificate is not None and certificate.holds and certificate.control_tokens == 4
    tokenizer = AutoTokenizer.from_pretrained(final / "base")
    asked = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    model, _ = load_assistant(final)
    assert model.generate(**asked, max_new_tokens=2, do_sample=False).shape[1] > asked["input_ids"].shape[1]
