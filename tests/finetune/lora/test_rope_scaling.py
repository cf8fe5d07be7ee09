"""Scaled rotary positions are those of transformers, are saved with the model, and are kept by every run of it."""

import json
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from configs import InputError
from finetune.lora.resolved_settings import choose_maximum_tokens
from finetune.lora.rope_scaling import scale_rope
from finetune.sft import main
from finetune.supervised.settings import SftSettings
from tests.finetune.entry_runs import SMALL, broken_at, run_here
from tests.finetune.tiny_models import POSITIONS, questions, save_tiny_base, tiny_gpt2, tiny_llama
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.pages.terminal import quiet_libraries

SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": POSITIONS,
}
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3_text", "gpt_neox", "smollm3", "olmo2")
KINDS: dict[str, dict[str, float]] = {
    "linear": {"factor": 4},
    "yarn": {"factor": 4, "beta_fast": 16},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
YARN: dict[str, Any] = {"rope_type": "yarn", "factor": 4}
IDS = torch.arange(3 * POSITIONS)[None] % 61


def _make(family, **changes):
    if family == "gemma3_text":
        changes["layer_types"] = ["sliding_attention", "full_attention"]
    torch.manual_seed(0)
    known = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SHAPE, **known, **changes})).eval()


@torch.no_grad()
def _logits(model):
    return model(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_scaled_model_is_the_one_that_transformers_opens_from_its_config(family, kind, tmp_path):
    plain = _make(family)
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    scaled = scale_rope(plain, {"rope_type": kind, **KINDS[kind]})
    assert all(torch.equal(before[name], weight) for name, weight in scaled.state_dict().items())
    scaled.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert opened.config.get_text_config().max_position_embeddings == POSITIONS * KINDS[kind]["factor"]
    torch.testing.assert_close(_logits(scaled), _logits(opened))
    assert not torch.allclose(_logits(scaled), _logits(_make(family)), atol=1e-6)


def test_linear_scaling_divides_positions(monkeypatch):
    """Chen et al. 2023, equation 2: a token at m is read as one at m / factor was."""
    plain, scaled = tiny_llama(), scale_rope(tiny_llama(), {"rope_type": "linear", "factor": 2})
    every_second = torch.arange(0, 40, 2)[None]
    with torch.no_grad():
        expected = plain(IDS[:, :20], position_ids=every_second // 2).logits
        torch.testing.assert_close(scaled(IDS[:, :20], position_ids=every_second).logits, expected)


def test_yarn_keeps_the_fast_dimensions_and_divides_the_slow_ones():
    """Peng et al. 2023, section 3.2: by parts."""
    plain, scaled = _make("llama", head_dim=64), scale_rope(_make("llama", head_dim=64), YARN)
    ratio = plain.model.rotary_emb.inv_freq / scaled.model.rotary_emb.inv_freq
    assert ratio[0] == 1 and ratio[-1] == pytest.approx(4) and (ratio.diff() >= -1e-6).all()


def test_layers_of_a_window_stay_as_they_are():
    plain, scaled = _make("gemma3_text"), scale_rope(_make("gemma3_text"), YARN)
    before, after = plain.config.rope_parameters, scaled.config.rope_parameters
    assert after["sliding_attention"] == before["sliding_attention"] and after["full_attention"]["rope_type"] == "yarn"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (tiny_gpt2, r"the base \(gpt2\) has no rotary positions that its config scales"),
        (lambda: scale_rope(tiny_llama(), YARN), r"the base \(llama\) is scaled already \(yarn, 384 positions\)"),
        (lambda: _make("phi3"), r"transformers objects \(.* must be one of \['longrope'\], got yarn\)"),
    ],
)
def test_a_family_that_does_not_know_it_is_refused_in_one_line(model, said):
    with pytest.raises(InputError, match=said) as refused:
        scale_rope(model(), YARN)
    assert "\n" not in str(refused.value)


BAD = {
    "no kind": ({"factor": 4}, "rope_scaling.rope_type: found None, expected one of linear, yarn, llama3"),
    "unknown": ({"rope_type": "ntk", "factor": 4}, "rope_scaling.rope_type: found 'ntk', expected one of linear"),
    "by length": ({"rope_type": "dynamic", "factor": 4}, "rope_scaling.rope_type: found dynamic, by which positions"),
    "no factor": ({"rope_type": "yarn"}, "rope_scaling.factor: missing, yarn needs factor"),
    "typo": ({**YARN, "beta_fats": 3}, "rope_scaling.beta_fats: yarn has no such option, did you mean beta_fast?"),
    "small": ({"rope_type": "linear", "factor": 1}, "rope_scaling.factor: found 1, expected a number above 1"),
    "text": ({"rope_type": "linear", "factor": "x"}, "rope_scaling.factor: found 'x', expected a finite number"),
    "flag": ({**YARN, "truncate": 3}, "rope_scaling.truncate: found 3, expected true or false"),
    "half": ({"rope_type": "llama3", "factor": 8}, "rope_scaling.low_freq_factor: missing, llama3 needs"),
}


@pytest.mark.parametrize(("given", "said"), BAD.values(), ids=BAD)
def test_a_scaling_that_is_none_is_refused_before_anything_is_read(given, said):
    with pytest.raises(InputError) as refused:
        SftSettings(rope_scaling=given)
    assert str(refused.value).startswith(said)


def test_parameters_that_transformers_only_warns_of_are_refused():
    quiet_libraries()  # as every run does
    with pytest.raises(InputError, match="transformers objects"):
        scale_rope(tiny_llama(), {**YARN, "beta_fast": 0.5})


def test_more_tokens_than_the_base_reads_are_refused_with_the_factor_that_would_do():
    with pytest.raises(InputError, match=r"maximum_tokens: found 300, .* 96 tokens at once: .*\.factor 4$"):
        choose_maximum_tokens(300, 96)
    assert choose_maximum_tokens(96, 96) == 96


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A Llama of 96 positions with a tokenizer, and conversations of more than that."""
    folder = tmp_path_factory.mktemp("inputs")
    save_tiny_base(folder / "base")
    tiny_llama(next_token_id(load_tokenizer(str(folder / "base")))).save_pretrained(folder / "base")
    lines = [{"question": asked, "answer": f"{answer} " * (2 + number % 9)} for number, (asked, answer) in
             enumerate(questions(60))]  # fmt: skip
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


LONG: dict[str, Any] = {
    "maximum_tokens": 300,
    "rope_scaling.rope_type": "yarn",
    "rope_scaling.factor": 4,
    "chat": "graft",
}
QUICK: dict[str, Any] = {
    **SMALL,
    "max_steps": 4,
    "checkpoint_steps": 2,
    "evaluation_conversations": 2,
    "reply_tokens": 4,
}
QUICK |= {"evaluation_steps": 0, "precision": "fp32", "evaluation_replies": 0, "conversations_per_step": 4}


def test_a_run_on_long_rows_resumes_merges_and_is_opened_with_its_scaling(inputs, tmp_path, capsys):
    given = {**QUICK, "base": inputs / "base", "data": inputs / "data.jsonl", "output_dir": tmp_path / "run"}
    with pytest.raises(SystemExit) as refused:
        run_here(main, SftSettings, **given, maximum_tokens=300)
    assert refused.value.code == 2 and "the base reads 96 tokens at once" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with broken_at(3):
        run_here(main, SftSettings, **given, **LONG, merge=True)
    run_here(main, SftSettings, **given, **LONG, merge=True, resume=True)
    said = capsys.readouterr().out
    assert "conversations of more than" not in said
    for folder in ("final/base", "merged"):
        config = AutoConfig.from_pretrained(tmp_path / "run" / folder)
        assert config.max_position_embeddings == 4 * POSITIONS
        assert config.rope_parameters["rope_type"] == "yarn" and config.rope_parameters["factor"] == 4
        assert config.rope_parameters["original_max_position_embeddings"] == POSITIONS
    with pytest.raises(SystemExit) as refused:
        run_here(main, SftSettings, **given, **{**LONG, "rope_scaling.factor": 8}, merge=True, resume=True)
    assert refused.value.code == 2 and "was started with rope_scaling" in capsys.readouterr().err
