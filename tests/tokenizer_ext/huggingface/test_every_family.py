"""The whole chain on every family of tokenizer and model: extended, certified, saved, reloaded, shared as a delta."""

from dataclasses import replace
from itertools import zip_longest

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tokenizer_ext.families import FAMILIES, write_family
from tests.tokenizer_ext.tiny_models import TINY_MODELS, tiny_phi
from tokenizer_ext.extension.certificate import read_certificate
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

# Two code points each, which a normaliser joins: 한 as jamo, é as e with an accent.
TEXTS = ["Café 한국 2048 don't  東京\n\n\tclass", "naïve " * 9, "<|user|>hi<|end|>", "  \r\n x"]


MODELS = {**TINY_MODELS, "phi": tiny_phi}  # the head of phi has a bias


CHAINS = [*zip_longest(FAMILIES, MODELS, fillvalue="gpt2")]


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(family, kind, marks=[] if family in ("gpt2", "llama 3", "smollm") else pytest.mark.long)
        for family, kind in CHAINS
    ],
)
def test_the_chain_holds(family: str, kind: str, prose, tmp_path):
    write_family(family, tmp_path / "base", [prose])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    base = MODELS[kind](next_token_id(tokenizer))
    base.save_pretrained(tmp_path / "base")
    extended = extend_vocabulary(
        tmp_path / "base",
        corpus=[*prose.split("\n\n"), *TEXTS],
        protect=[TEXTS[0]],
        words=[" wyvern"],
        control_tokens=["<|user|>"],
        new_tokens=30,
        rows_multiple=32,
        start="asymmetric",
    )
    certificate = extended.certificate
    assert certificate.flaws == () and certificate.encoders.reason == ""
    assert certificate.rows is not None and certificate.rows.after % 32 == 0
    assert certificate.rows.before == base.get_input_embeddings().num_embeddings
    extended.save(tmp_path / "extended")
    assert read_certificate(tmp_path / "extended") == replace(certificate, reopened=True)
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "extended")
    assert reloaded(TEXTS)["input_ids"] == extended.tokenizer(TEXTS)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "extended")
    assert model.get_output_embeddings().out_features == certificate.rows.after
    save_delta(model, reloaded, certificate.base_tokens, tmp_path / "delta")
    applied = apply_delta(tmp_path / "base", tmp_path / "delta")
    applied.save(tmp_path / "applied")
    assert applied.tokenizer(TEXTS)["input_ids"] == reloaded(TEXTS)["input_ids"]
    found, wanted = (load_file(tmp_path / name / "model.safetensors") for name in ("applied", "extended"))
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
