"""Attention, lens and probabilities of a page are those of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from scratch_models.embedded.default import EMBEDDED_BASE
from scratch_models.look import LookSettings, main
from scratch_models.looking.figures import unpack_attention
from scratch_models.looking.look_page import read_figures
from scratch_models.looking.scratch_reading import read_with_scratch_model
from scratch_models.rungs.gpt2_weights import load_gpt2
from scratch_models.rungs.llama_weights import load_llama
from tests.real_tokenizers import real_model, smollm2_folder
from tests.scratch_models.test_sample import bytes_tokenizer

PROMPT = "The capital of France is"


def page_of(checkpoint: str, folder: Path, prompt: str = PROMPT, **fields: Any) -> dict[str, Any]:
    main(LookSettings(checkpoint=checkpoint, prompt=prompt, output_dir=str(folder / "look"), **fields))
    return read_figures((folder / "look" / "look.html").read_text(encoding="utf-8"))


def tiny_llama(folder: Path) -> str:
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=257, num_hidden_layers=2, max_position_embeddings=32, **shape)
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    model.save_pretrained(folder / "llama")
    bytes_tokenizer().save_pretrained(folder / "llama")
    return str(folder / "llama")


@torch.no_grad()
def read_by_transformers(name: str, prompt: str, norm: str) -> tuple[Tensor, list[Tensor], Tensor]:
    """Attention (layers, H, T, T), logits of the lens (T, V) after each layer, and the ids."""
    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager", dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(name)(prompt, return_tensors="pt").input_ids
    out = model(ids, output_attentions=True, output_hidden_states=True)
    final_norm = model.get_submodule(norm)
    lens = [model.lm_head(final_norm(stream[0])) for stream in out.hidden_states[:-1]]
    return torch.cat(out.attentions), [*lens, out.logits[0]], ids[0]


def expect_equal(figures: dict[str, Any], name: str, norm: str, prompt: str = PROMPT) -> None:
    attention, lens, ids = read_by_transformers(name, prompt, norm)
    assert figures["ids"] == ids.tolist()
    torch.testing.assert_close(unpack_attention(figures["attention"]), attention, rtol=0, atol=1e-5)
    assert attention.std() > 0.01  # so that 1e-5 says something
    assert len(figures["lens"]) == len(lens) == len(attention) + 1
    for stage, logits in zip(figures["lens"], lens, strict=True):
        probabilities = logits.double().softmax(dim=-1)
        expected = probabilities.topk(5).values
        found = [[one["probability"] for one in place["top"]] for place in stage]
        torch.testing.assert_close(torch.tensor(found).double(), expected, rtol=0, atol=1e-5)
        actual = probabilities[range(len(ids) - 1), ids[1:]]
        found_actual = torch.tensor([place["actual"] for place in stage[:-1]]).double()
        torch.testing.assert_close(found_actual, actual, rtol=0, atol=1e-5)
        assert stage[-1]["actual"] is None
    expected = lens[-1].double().softmax(dim=-1)
    for place, row in zip(figures["next"], expected, strict=True):
        listed = torch.tensor([one["probability"] for one in place]).double()
        torch.testing.assert_close(listed, row[[one["id"] for one in place]], rtol=0, atol=1e-5)
        torch.testing.assert_close(listed, row.topk(20).values, rtol=0, atol=1e-5)


def test_the_embedded_base_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    expect_equal(page_of("embedded", tmp_path), str(EMBEDDED_BASE), "transformer.ln_f")


def test_a_llama_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    name = tiny_llama(tmp_path)
    expect_equal(page_of(name, tmp_path), name, "model.norm")


@pytest.mark.parametrize(
    "family", ["llama2", *(pytest.param(one, marks=pytest.mark.long) for one in ("qwen3", "gemma3"))]
)
def test_families_of_llama_are_read_as_transformers_reads_them(family: str, tmp_path: Path) -> None:
    name = str(real_model(family, tmp_path / "model"))
    figures = page_of(name, tmp_path)
    expect_equal(figures, name, "model.norm")
    assert " France" in figures["texts"]
    assert figures["directions"][0]["tokens"] == [" king", " man", " woman"]


@pytest.mark.long
def test_smollm2_is_read_as_transformers_reads_it_and_knows_the_capital_of_france(tmp_path: Path) -> None:
    folder = str(smollm2_folder())
    figures = page_of("smollm2", tmp_path, direction=["king - man + woman", "Paris - France + Germany"])
    expect_equal(figures, folder, "model.norm")
    assert figures["texts"] == ["The", " capital", " of", " France", " is"]
    assert figures["next"][-1][0]["text"] == " Paris"
    found = [[row["text"] for row in one["rows"] if not row["asked"]][:2] for one in figures["directions"]]
    assert " queen" in found[0] and " Berlin" in found[1]


@pytest.mark.parametrize("kind", ["embedded", "llama"])
def test_our_own_rungs_are_heard_as_transformers_gives_itself_out(kind: str, tmp_path: Path) -> None:
    name, norm = (
        (str(EMBEDDED_BASE), "transformer.ln_f") if kind == "embedded" else (tiny_llama(tmp_path), "model.norm")
    )
    attention, lens, ids = read_by_transformers(name, PROMPT, norm)
    model = load_gpt2(name) if kind == "embedded" else load_llama(name)
    reading = read_with_scratch_model(model, ids.tolist(), name)
    torch.testing.assert_close(torch.stack(list(reading.attention)), attention, rtol=0, atol=1e-5)
    assert reading.head is not None and len(reading.normed) == len(lens) and reading.left_out == {}
    for normed, expected in zip(reading.normed, lens, strict=True):
        torch.testing.assert_close(reading.head(normed).softmax(-1), expected.softmax(-1), rtol=0, atol=1e-5)
