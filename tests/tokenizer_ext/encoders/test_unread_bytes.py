"""A byte-level vocabulary that lacks bytes is extended as it is: text with such a byte is what the base says it is."""

import json
from dataclasses import replace

import pytest

from configs import InputError
from tests.real_tokenizers import smollm2_folder
from tests.tokenizer_ext.families import write_family
from tests.tokenizer_ext.tiny_models import tiny_tied_llama
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.merge_learning import base_ids
from tokenizer_ext.encoders.agreement import taken_apart
from tokenizer_ext.encoders.unread_bytes import character_with, texts_without_a_byte
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.checks import certify
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.extension.plan import make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.byte_level_backend import missing_bytes
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.huggingface.tiktoken_export import export_tiktoken
from tokenizer_ext.trimming.trimmed_model import trim_vocabulary

SMOLLM2_LACKS = bytes.fromhex("040613 14161d c0c1f1f2") + bytes(range(0xF5, 0x100))


@pytest.fixture(scope="module")
def folder(prose, tmp_path_factory):
    """SmolLM's family without the bytes that SmolLM2's published vocabulary lacks, ids numbered anew, and a model."""
    folder = write_family("smollm", tmp_path_factory.mktemp("lacking"), [prose])
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    missing = {visible(bytes([byte])) for byte in SMOLLM2_LACKS}
    vocabulary = [token for token in content["model"]["vocab"] if token not in missing]
    content["model"]["vocab"] = {token: id_ for id_, token in enumerate(vocabulary)}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    tiny_tied_llama(len(vocabulary)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def extended(folder, prose):
    return extend_vocabulary(folder, corpus=prose.split("\n\n"), words=[" wyvern"], new_tokens=40)


def test_an_extension_holds_and_other_encoders_agree_on_text_without_such_bytes(extended):
    assert missing_bytes(extended.plan.base) == SMOLLM2_LACKS
    assert extended.certificate.holds and extended.certificate.unlike_base_documents == 0
    assert extended.certificate.encoders.documents > 20 and extended.certificate.encoders.unequal_documents == 0


def test_text_with_such_a_byte_is_what_the_base_makes_of_it(extended):
    base, after = (plain_text_encoder(one) for one in (extended.plan.base, extended.tokenizer))
    texts = texts_without_a_byte(extended.plan.base, ["class object", "\x04", "import", " wyvern"])
    assert len(texts) == 8 * 5  # 13 of the 21 bytes stand in no UTF-8 text
    parts = dict(zip((merge.token for merge in extended.merges), base_ids(extended.merges), strict=True))
    for text in texts:
        assert taken_apart(after.encode(text).ids, parts) == base.encode(text).ids
    assert base.encode("a\x04b").ids == base.encode("a").ids + base.encode("b").ids


def test_ids_that_are_not_the_bases_are_counted(extended, folder):
    # A token that is said to be made of other ids than those whose place it takes.
    merge = extended.merges[-1]
    wrong = replace(merge, left=merge.right, right=merge.left)
    plan = replace(extended.plan, merges=(*extended.merges[:-1], wrong))
    certificate = certify(plan, extended.model, hash_weights(extended.model, extended.first_new_id), 400)
    assert certificate.unlike_base_documents and "unlike_base_documents" in certificate.flaws


def test_a_delta_and_a_trimmed_vocabulary_of_it_hold(extended, folder, prose, tmp_path):
    saved = save_delta(extended.model, extended.tokenizer, extended.first_new_id, tmp_path / "delta")
    applied = apply_delta(folder, saved)
    assert applied.certificate.holds and applied.tokenizer.get_vocab() == extended.tokenizer.get_vocab()
    trimmed = trim_vocabulary(applied.model, applied.tokenizer, prose.split("\n\n"))
    assert trimmed.certificate.holds and missing_bytes(trimmed.tokenizer) == SMOLLM2_LACKS


def test_a_corpus_that_the_base_has_no_bytes_for_is_refused(folder):
    tokenizer = load_tokenizer(str(folder))
    texts = sort_texts(["\U00040000 " * 50, "an import of a class", "an import of a class \x04"], None, [])
    with pytest.raises(InputError, match=r"corpus: 17\.5% of its bytes have no token in the base, '\\U00040000' the"):
        make_plan(tokenizer, texts, Wanted(new_tokens=1))


def test_such_a_vocabulary_has_no_tiktoken_form(extended):
    with pytest.raises(InputError, match="found that it lacks 21 of the 256 bytes, expected all"):
        export_tiktoken(extended.tokenizer, "smollm")


def test_a_character_is_found_for_every_byte_that_utf8_has():
    never = [byte for byte in range(256) if byte not in character_with(byte).encode()]
    assert never == [0xC0, 0xC1, *range(0xF5, 0x100)]


@pytest.mark.long  # its real ranks are compared in three encoders
def test_the_real_smollm2_gets_words_of_its_own(prose):
    tokenizer = load_tokenizer(str(smollm2_folder()))
    assert missing_bytes(tokenizer) == SMOLLM2_LACKS
    plan = make_plan(tokenizer, sort_texts(prose.split("\n\n"), None, []), Wanted(new_tokens=30, minimum_count=2))
    assert len(plan.merges) == 30 and plan.curve is not None
    assert plan.curve.points[-1].bytes_per_token > plan.curve.points[0].bytes_per_token
    model = tiny_tied_llama(next_token_id(plan.tokenizer))
    certificate = certify(plan, model, hash_weights(model, plan.first_new_id), next_token_id(tokenizer))
    assert certificate.holds and certificate.unlike_base_documents == 0
