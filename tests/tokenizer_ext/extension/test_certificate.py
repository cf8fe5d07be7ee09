import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from configs import InputError
from scratch_models.rungs.bigram import BigramLanguageModel
from tokenizer_ext.embeddings.tables import grow_rows
from tokenizer_ext.encoders.agreement import EncoderAgreement
from tokenizer_ext.extension.certificate import (
    Certificate,
    Rows,
    TokenizerHashes,
    WeightHashes,
    hash_tokenizer,
    hash_weights,
    read_certificate,
    write_certificate,
)
from tokenizer_ext.extension.extension import Extended, extend_vocabulary
from tokenizer_ext.extension.report import describe
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens

TABLES = ("wte.weight", "embed_tokens.weight", "lm_head.weight")


def gpt2(tied: bool = True, rows: int = 400) -> Any:
    torch.manual_seed(0)
    fields = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "tie_word_embeddings": tied}
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, bos_token_id=None, eos_token_id=None, **fields))


def llama(tied: bool = True, rows: int = 400) -> Any:
    torch.manual_seed(0)
    fields = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows, tie_word_embeddings=tied, **fields))


# With safetensors, json, hashlib and tokenizers alone, as anyone can do it.


def hashes_of_folder(folder: Path, base_tokens: int) -> dict[str, str]:
    """The hashes as the module's docstring says, from the file alone."""
    digests = {"base_rows": hashlib.sha256(), "other_weights": hashlib.sha256()}
    for name, weight in sorted(load_file(folder / "model.safetensors").items()):
        of_tokens = name.endswith(TABLES)
        kept = (weight[:base_tokens] if of_tokens else weight).float()
        digest = digests["base_rows" if of_tokens else "other_weights"]
        digest.update(" ".join([name, *(str(size) for size in kept.shape)]).encode() + b"\n" + kept.numpy().tobytes())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def hash_of_tokenizer(folder: Path, base_tokens: int) -> str:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    old = {token: id_ for token, id_ in (content["model"]["vocab"] | added).items() if id_ < base_tokens}
    parts = {
        "vocab": old,
        "merges": [merge for merge in content["model"]["merges"] if "".join(merge) in old],
        "normalizer": content["normalizer"],
        "pre_tokenizer": content["pre_tokenizer"],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def recomputed(base: Path, extended: Path, documents: list[str], protected: list[str]) -> dict[str, Any]:
    """The claims that two folders and the documents decide."""
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (base, extended))
    old, new = before.get_vocab(with_added_tokens=True), after.get_vocab(with_added_tokens=True)
    first = max(old.values()) + 1
    special = before.get_added_tokens_decoder()
    pairs = [(before.encode(text).ids, after.encode(text).ids) for text in documents]
    text_bytes = sum(len(text.encode()) for text in documents)
    tables = [
        {name: rows for name, rows in load_file(folder / "model.safetensors").items() if name.endswith(TABLES)}
        for folder in (base, extended)
    ]
    rows_before, rows_after = ({rows.shape[0] for rows in one.values()} for one in tables)
    return {
        "base_tokens": first,
        "new_tokens": len(set(new) - set(old)) - (len(after.get_added_tokens_decoder()) - len(special)),
        "control_tokens": len(after.get_added_tokens_decoder()) - len(special),
        "moved_ids": sum(new.get(token) != id_ for token, id_ in old.items()),
        "moved_special_ids": sum(new.get(token.content) != id_ for id_, token in special.items()),
        "bytes_per_token_before": text_bytes / sum(len(then) for then, _ in pairs),
        "bytes_per_token_after": text_bytes / sum(len(now) for _, now in pairs),
        "longer_documents": sum(len(now) > len(then) for then, now in pairs),
        "measured_documents": len(documents),
        "protected_documents": len(protected),
        "changed_protected_documents": sum(before.encode(text).ids != after.encode(text).ids for text in protected),
        "rows": {
            "before": min(rows_before),
            "after": min(rows_after),
            "padding_used": min(min(rows_before) - first, len(new) - len(old)),
            "tied": len(tables[1]) == 1,
        },
        "tokenizer": {"before": hash_of_tokenizer(base, first), "after": hash_of_tokenizer(extended, first)},
        "weights_before": hashes_of_folder(base, first),
        "weights_after": hashes_of_folder(extended, first),
    }


def extend_into(folder: Path, model: Any, tokenizer: Any, prose: str) -> tuple[Extended, dict[str, Any]]:
    """Folders `base` and `extended` and what they decide; the certificate is said of them."""
    paragraphs = prose.split("\n\n")
    documents = list(dict.fromkeys(text for text in paragraphs if text.strip()))
    learned, held_out, protected = documents[20:], documents[10:20], documents[:10]
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    extended = extend_vocabulary(
        (model, tokenizer),
        corpus=learned,
        held_out=held_out,
        protect=protected,
        new_tokens=30,
        words=[" wyvern"],
        control_tokens=["<|user|>"],
        rows_multiple=64,
    )
    extended.save(folder / "extended")
    return extended, recomputed(folder / "base", folder / "extended", held_out, protected)


@pytest.mark.parametrize(
    ("build", "tied", "dtype"),
    [
        (gpt2, True, torch.float32),
        pytest.param(gpt2, False, torch.bfloat16, marks=pytest.mark.long),
        pytest.param(llama, True, torch.bfloat16, marks=pytest.mark.long),
        pytest.param(llama, False, torch.float32, marks=pytest.mark.long),
    ],
)
def test_anyone_gets_the_certificate_from_the_two_saved_folders(
    build, tied: bool, dtype: torch.dtype, small_tokenizer, prose, tmp_path
):
    extended, found = extend_into(tmp_path, build(tied, rows=403).to(dtype), small_tokenizer, prose)
    certificate = json.loads((tmp_path / "extended" / "certificate.json").read_text())
    assert certificate == dataclasses.asdict(dataclasses.replace(extended.certificate, reopened=True))
    assert {name: certificate[name] for name in found} == found
    assert certificate["weights_before"] == certificate["weights_after"]
    assert certificate["tokenizer"]["before"] == certificate["tokenizer"]["after"]
    assert (found["rows"]["after"], found["rows"]["padding_used"]) == (448, 3)
    assert found["longer_documents"] == found["changed_protected_documents"] == found["moved_ids"] == 0
    assert extended.certificate.holds


def test_one_flipped_bit_of_an_old_row_in_the_file_is_found_by_anyone(small_tokenizer, prose, tmp_path):
    extend_into(tmp_path, gpt2(), small_tokenizer, prose)
    path = tmp_path / "extended" / "model.safetensors"
    content = bytearray(path.read_bytes())
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    start = 8 + int.from_bytes(content[:8], "little") + header["transformer.wte.weight"]["data_offsets"][0]
    certificate = json.loads((tmp_path / "extended" / "certificate.json").read_text())
    for place, same in ((400 * 16 * 4, True), (400 * 16 * 4 - 4, False)):  # in the first new row, in the last old one
        content[start + place] ^= 1
        path.write_bytes(content)
        found = hashes_of_folder(tmp_path / "extended", 400)
        assert (found == certificate["weights_before"]) == same


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


def test_the_hash_of_a_tokenizer_is_that_of_the_old_ids_alone(small_tokenizer):
    hashed = hash_tokenizer(small_tokenizer, 400)
    assert hash_tokenizer(add_control_tokens(small_tokenizer, ["<|user|>"]), 400) == hashed
    assert hash_tokenizer(add_control_tokens(small_tokenizer, ["<|user|>"]), 401) != hashed
    assert hash_tokenizer(small_tokenizer, 399) != hashed


WEIGHTS = WeightHashes(base_rows="ab" * 32, other_weights="cd" * 32)
HOLDING = Certificate(
    base_tokens=400,
    new_tokens=50,
    word_tokens=3,
    control_tokens=4,
    unreachable_tokens=0,
    moved_ids=0,
    moved_special_ids=0,
    bytes_per_token_before=2.0,
    bytes_per_token_after=2.5,
    longer_documents=0,
    measured_documents=7,
    held_out_documents=7,
    protected_documents=2,
    reloaded_documents=9,
    encoders=EncoderAgreement(documents=9, unequal_documents=0),
    rows=Rows(before=400, after=454, padding_used=0, tied=True),
    tokenizer=TokenizerHashes(before="ef" * 32, after="ef" * 32),
    weights_before=WEIGHTS,
    weights_after=WEIGHTS,
)


@pytest.mark.parametrize(
    ("flaw", "name"),
    [
        ({"unreachable_tokens": 1}, "unreachable_tokens"),
        ({"moved_ids": 1}, "moved_ids"),
        ({"moved_special_ids": 1}, "moved_special_ids"),
        ({"longer_documents": 1}, "longer_documents"),
        ({"changed_protected_documents": 1}, "changed_protected_documents"),
        ({"unequal_after_reload": 1}, "unequal_after_reload"),
        ({"encoders": EncoderAgreement(documents=9, unequal_documents=1)}, "encoders"),
        ({"rows": Rows(before=400, after=399, padding_used=0, tied=True)}, "rows"),
        ({"tokenizer": TokenizerHashes(before="ef" * 32, after="00" * 32)}, "tokenizer"),
        ({"weights_after": dataclasses.replace(WEIGHTS, base_rows="ff" * 32)}, "weights"),
        ({"weights_after": dataclasses.replace(WEIGHTS, other_weights="ff" * 32)}, "weights"),
    ],
)
def test_a_certificate_with_a_flaw_does_not_hold_and_says_which(flaw: dict[str, Any], name: str):
    assert HOLDING.holds
    assert describe(HOLDING).endswith("certificate holds")
    flawed = dataclasses.replace(HOLDING, **flaw)
    assert flawed.flaws == (name,) and not flawed.holds
    assert describe(flawed).endswith(f"certificate DOES NOT HOLD: {name}")
    assert ("CHANGED" in describe(flawed)) == (name in ("weights", "tokenizer"))


def test_a_certificate_of_fully_trained_weights_says_so_and_holds():
    other = dataclasses.replace(WEIGHTS, base_rows="ff" * 32)
    trained = dataclasses.replace(HOLDING, weights_after=other, all_weights_trained=True)
    assert trained.holds
    assert "old weights trained with the rest" in describe(trained)


def test_a_tokenizer_without_tiktoken_form_is_no_flaw_and_the_reason_is_said():
    certificate = dataclasses.replace(HOLDING, encoders=EncoderAgreement(reason="its pre-tokenizer is unknown"))
    assert certificate.holds
    assert "not compared with another encoder (its pre-tokenizer is unknown)" in describe(certificate)


def test_the_description_says_what_was_gained_on_what():
    assert describe(HOLDING).startswith("400 tokens + 3 for words + 47 learned + 4 control tokens\n")
    assert "on 7 held-out documents: 2.000 -> 2.500 (+25.0%)" in describe(HOLDING)
    short = dataclasses.replace(HOLDING, held_out_documents=0)
    assert "on the corpus itself (too short to hold out)" in describe(short)
    empty = dataclasses.replace(short, bytes_per_token_before=0.0, bytes_per_token_after=0.0)
    assert "bytes per token" not in describe(empty)


def test_a_certificate_is_read_as_it_was_written(tmp_path):
    write_certificate(HOLDING, tmp_path)
    assert read_certificate(tmp_path) == HOLDING
    assert read_certificate(tmp_path / "nowhere") is None


def test_a_certificate_of_weights_alone_is_read_and_claims_nothing_else(tmp_path):
    hashes = {"base_rows": "ab", "other_weights": "cd"}
    record = {"base_tokens": 7, "weights_before": hashes, "weights_after": hashes}
    (tmp_path / "certificate.json").write_text(json.dumps(record))
    certificate = read_certificate(tmp_path)
    assert certificate is not None and certificate.holds and certificate.moved_ids is None
    assert "old ids moved: not measured" in describe(certificate)


def test_where_nothing_was_added_one_line_says_so():
    hashes = WeightHashes(base_rows="ab", other_weights="cd")
    rows = Rows(before=9, after=9, padding_used=0, tied=True)
    certificate = Certificate(base_tokens=7, rows=rows, weights_before=hashes, weights_after=hashes)
    assert describe(certificate) == "7 tokens, none added; old weights unchanged: rows sha256 ab…, others cd…"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda text: text[:-9], "cannot be read"),
        (lambda text: text.replace("base_tokens", "base_token"), "base_token is no field of it"),
        (lambda text: text.replace('"base_tokens": 400', '"base_tokens": "400"'), 'base_tokens is "400", expected int'),
        (lambda text: text.replace('"base_tokens": 400', '"base_tokens": true'), "base_tokens is true, expected int"),
        (lambda text: "[]", "expected fields and values"),
        (lambda text: "[" * 100_000, "cannot be read"),
        (lambda text: '{"base_tokens": 5}', "missing 2 required"),
    ],
)
def test_a_damaged_certificate_is_refused_in_one_line(tmp_path, damage, found: str):
    write_certificate(HOLDING, tmp_path)
    path = tmp_path / "certificate.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=found) as refused:
        read_certificate(tmp_path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
