import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from scratch_models.bigram import BigramLanguageModel
from tokenizer_ext.certificate import Certificate, WeightHashes, hash_weights
from tokenizer_ext.continued_bpe import Merge, count_pieces, learn_merges
from tokenizer_ext.embeddings import grow_rows
from tokenizer_ext.extend import extend_vocabulary
from tokenizer_ext.extension_checks import count_moved_ids, count_unreachable, token_lengths
from tokenizer_ext.extension_report import describe
from tokenizer_ext.hf_tokenizer import add_control_tokens, append_merges, next_token_id, token_bytes

TABLES = ("wte.weight", "embed_tokens.weight", "lm_head.weight")


def gpt2(tied: bool = True, rows: int = 400) -> Any:
    torch.manual_seed(0)
    fields = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "tie_word_embeddings": tied}
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, bos_token_id=None, eos_token_id=None, **fields))


def llama(tied: bool = True, rows: int = 400) -> Any:
    torch.manual_seed(0)
    fields = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows, tie_word_embeddings=tied, **fields))


def hashes_of_folder(folder: Path, base_tokens: int) -> dict[str, str]:
    """The hashes as the module's docstring says, from the file alone."""
    digests = {"base_rows": hashlib.sha256(), "other_weights": hashlib.sha256()}
    for name, weight in sorted(load_file(folder / "model.safetensors").items()):
        of_tokens = name.endswith(TABLES)
        kept = weight[:base_tokens] if of_tokens else weight
        digest = digests["base_rows" if of_tokens else "other_weights"]
        digest.update(" ".join([name, *(str(size) for size in kept.shape)]).encode() + b"\n" + kept.tobytes())
    return {name: digest.hexdigest() for name, digest in digests.items()}


@pytest.mark.parametrize("build", [gpt2, llama])
@pytest.mark.parametrize("tied", [True, False])
def test_anyone_gets_the_hashes_of_the_certificate_from_the_two_saved_folders(
    build, tied: bool, small_tokenizer, prose, tmp_path
):
    model = build(tied)
    model.save_pretrained(tmp_path / "base")
    extended = extend_vocabulary(
        (model, small_tokenizer), corpus=prose.split("\n\n"), new_tokens=30, control_tokens=["<|user|>"]
    )
    extended.save(tmp_path / "extended")
    certificate = json.loads((tmp_path / "extended" / "certificate.json").read_text())
    assert certificate == dataclasses.asdict(extended.certificate)
    assert certificate["weights_before"] == hashes_of_folder(tmp_path / "base", certificate["base_tokens"])
    assert certificate["weights_after"] == hashes_of_folder(tmp_path / "extended", certificate["base_tokens"])
    assert certificate["weights_before"] == certificate["weights_after"]


def flip_bit(tensor: torch.Tensor, place: int) -> None:
    tensor.detach().view(-1)[place : place + 1].view(torch.int32).bitwise_xor_(1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["transformer.wte.weight", "lm_head.weight"])
def test_one_flipped_bit_of_one_old_row_is_another_hash_of_the_rows_alone(tied: bool, name: str):
    model = gpt2(tied)
    before = hash_weights(model, 390)
    flip_bit(model.get_parameter(name), 390 * 16 - 1)  # the last number of the last old row
    after = hash_weights(model, 390)
    assert after.base_rows != before.base_rows
    assert after.other_weights == before.other_weights


@pytest.mark.parametrize("name", ["transformer.h.0.attn.c_attn.weight", "transformer.ln_f.bias"])
def test_one_flipped_bit_of_another_weight_is_another_hash_of_the_others_alone(name: str):
    model = gpt2()
    before = hash_weights(model, 390)
    flip_bit(model.get_parameter(name), 0)
    after = hash_weights(model, 390)
    assert after.base_rows == before.base_rows
    assert after.other_weights != before.other_weights


def test_rows_of_new_ids_enter_no_hash():
    model = gpt2()
    before = hash_weights(model, 390)
    model.transformer.wte.weight.data[390:] += 1
    assert hash_weights(model, 390) == before


def test_a_weight_that_is_saved_but_never_trains_is_hashed_too():
    model = gpt2()
    model.register_buffer("scale", torch.ones(1))
    before = hash_weights(model, 390)
    model.scale += 1
    assert hash_weights(model, 390).other_weights != before.other_weights


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hashes_do_not_depend_on_the_type_that_a_half_precision_model_is_loaded_in(dtype: torch.dtype):
    half = gpt2().to(dtype)
    single = gpt2().to(dtype).float()
    assert hash_weights(half, 390) == hash_weights(single, 390) != hash_weights(gpt2(), 390)


def test_of_a_bigram_table_the_corner_of_old_rows_and_columns_is_hashed():
    torch.manual_seed(0)
    model = BigramLanguageModel(6)
    before = hash_weights(model, 6)
    grow_rows(model, 6, torch.ones(2, 8), torch.ones(6, 2))
    assert hash_weights(model, 6) == before
    flip_bit(model.token_embedding_table.weight, 8 + 5)
    assert hash_weights(model, 6) != before


def learned(tokenizer, texts) -> list[Merge]:
    first_id = next_token_id(tokenizer)
    return learn_merges(count_pieces(texts, tokenizer), token_bytes(tokenizer), new_tokens=60, first_id=first_id)


def test_a_token_that_its_own_text_does_not_encode_to_is_counted(small_tokenizer, prose):
    merges = learned(small_tokenizer, [prose, "Größe 東京都は日本の首都である。" * 9])
    extended = append_merges(small_tokenizer, merges)
    assert any("\ufffd" in merge.token_bytes.decode(errors="replace") for merge in merges)  # pieces of characters
    assert count_unreachable(extended, merges) == 0
    # Two tokens that no pre-token holds together: the cut between them comes before any merge.
    ids = {text: token for token, text in token_bytes(extended).items()}
    across = Merge(ids[b"a"], ids[b" "], next_token_id(extended), b"a ", 2)
    assert count_unreachable(append_merges(extended, [across]), [*merges, across]) == 1


def test_moved_ids_are_counted(small_tokenizer):
    before = small_tokenizer.get_vocab()
    after = add_control_tokens(small_tokenizer, ["<|user|>"]).get_vocab()
    assert count_moved_ids(before, after) == 0
    after["<|user|>"], after["<|endoftext|>"] = after["<|endoftext|>"], after["<|user|>"]
    del after["a"]
    assert count_moved_ids(before, after) == 2


def test_lengths_are_those_of_plain_text(small_tokenizer, small_bpe):
    documents = ["a class and an import", "", "<|endoftext|>"]
    assert token_lengths(small_tokenizer, documents) == [len(small_bpe.encode_ordinary(text)) for text in documents]
    assert token_lengths(small_tokenizer, []) == []


WEIGHTS = WeightHashes(base_rows="ab" * 32, other_weights="cd" * 32)
HOLDING = Certificate(
    base_tokens=400,
    new_tokens=50,
    control_tokens=4,
    unreachable_tokens=0,
    moved_ids=0,
    bytes_per_token_before=2.0,
    bytes_per_token_after=2.5,
    longer_documents=0,
    held_out_documents=7,
    weights_before=WEIGHTS,
    weights_after=WEIGHTS,
)


@pytest.mark.parametrize(
    "flaw",
    [
        {"unreachable_tokens": 1},
        {"moved_ids": 1},
        {"weights_after": dataclasses.replace(WEIGHTS, base_rows="ff" * 32)},
        {"weights_after": dataclasses.replace(WEIGHTS, other_weights="ff" * 32)},
    ],
)
def test_a_certificate_with_a_flaw_does_not_hold_and_says_so(flaw: dict[str, Any]):
    assert HOLDING.holds
    assert "certificate holds" in describe(HOLDING)
    flawed = dataclasses.replace(HOLDING, **flaw)
    assert not flawed.holds
    assert "DOES NOT HOLD" in describe(flawed)
    assert ("CHANGED" in describe(flawed)) == ("weights_after" in flaw)


def test_the_description_says_what_was_gained_on_what():
    assert "on 7 held-out documents: 2.000 -> 2.500 (+25.0%)" in describe(HOLDING)
    short = dataclasses.replace(HOLDING, held_out_documents=0)
    assert "on the corpus itself (too short to hold out)" in describe(short)
    empty = dataclasses.replace(short, bytes_per_token_before=0.0, bytes_per_token_after=0.0)
    assert "bytes per token" not in describe(empty)
