"""SentencePiece BPE goes on where its own merges end: Hugging Face, SentencePiece's rule and its package agree."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from configs import InputError
from tests.real_tokenizers import loaded_tokenizer
from tests.tokenizer_ext.spm_families import SPM_FAMILIES, write_spm_family
from tests.tokenizer_ext.tiny_models import tiny_llama
from tokenizer_ext.encoders.spm_cuts import may_be_token
from tokenizer_ext.encoders.spm_model import read_pieces, with_new_pieces
from tokenizer_ext.encoders.spm_twin import SentencePieceTwin
from tokenizer_ext.extension.certificate import read_certificate
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.delta import apply_delta, save_delta
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.extension.plan import make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.inspection.proposal import propose

JAPANESE = ["東京都は日本の首都である。", "日本の首都は東京です。", "カタカナ ひらがな 東京"]
PARTS = [
    "a",
    "Z",
    " ",
    "  ",
    "   ",
    "\n",
    "\t",
    "é",
    "e\u0301",
    "\u0301",
    "\u00a0",
    "日本",
    "の",
    "한",
    "🙂",
    "👩\u200d🚀",
]
PARTS += ["\u200d", "\ufeff", "1", "23", "(", ")", "▁", ".", "the", " class", "ing", "\u3000", "東京都", "import"]


def fuzzed(count: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(PARTS, k=draw.randrange(1, 15))) for _ in range(count)]


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=[] if one == "llama 2" else pytest.mark.long) for one in SPM_FAMILIES],
)
def folder(request, prose, tmp_path_factory) -> Path:
    folder = write_spm_family(request.param, tmp_path_factory.mktemp("spm"), prose)
    tiny_llama(600).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(prose) -> list[str]:
    return [*prose.split("\n\n"), *(f"{text} {number}" for text in JAPANESE for number in range(30))]


@pytest.fixture(scope="module")
def extended(folder, corpus):
    return extend_vocabulary(
        folder, corpus=corpus, words=[" wyvern", "wyvern"], control_tokens=["<|user|>"], new_tokens=60, rows_multiple=32
    )


def test_an_extension_holds_and_its_folder_says_so(extended, folder, tmp_path):
    certificate = extended.certificate
    assert certificate.flaws == () and certificate.unlike_base_documents == 0
    assert certificate.character_tokens == len(extended.plan.characters) > 3
    assert certificate.new_tokens == 60 + certificate.word_tokens
    assert certificate.encoders.documents > 80 and certificate.encoders.unequal_documents == 0
    saved = extended.save(tmp_path / "extended")
    assert read_certificate(saved) == replace(certificate, reopened=True)
    again = AutoTokenizer.from_pretrained(saved)
    assert again(fuzzed(500))["input_ids"] == extended.tokenizer(fuzzed(500))["input_ids"]
    assert (saved / "tokenizer.model").is_file() == (folder / "tokenizer.model").is_file()


def test_sentencepieces_rule_gives_the_ids_of_fuzzed_texts(extended):
    twin, texts = SentencePieceTwin(extended.tokenizer), fuzzed(2000)
    found = extended.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [twin.encode(text) for text in texts] == [encoding.ids for encoding in found]


def test_the_package_gives_them_too_with_the_file_that_is_written(prose, corpus, tmp_path):
    import sentencepiece

    folder = write_spm_family("llama 2", tmp_path / "base", prose)
    base = load_tokenizer(str(folder))
    plan = make_plan(base, sort_texts(corpus, None, ()), Wanted(new_tokens=60, control_tokens=["<|user|>"]))
    content = (folder / "tokenizer.model").read_bytes()
    written = with_new_pieces(content, plan.tokenizer)
    assert written.startswith(content)
    pieces = read_pieces(written)
    assert [piece.kind for piece in pieces[600:]] == [1] * 60 + [3]
    assert max(piece.score for piece in pieces[600:]) < min(piece.score for piece in pieces[:600])
    processor = sentencepiece.SentencePieceProcessor(model_proto=written)
    texts = [*corpus, *fuzzed(2000)]
    expected = plan.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    unequal = [text for text, one in zip(texts, expected, strict=True) if processor.encode(text) != one.ids]
    assert unequal == []


def test_tokens_keep_sentencepieces_rules(extended):
    texts = [merge.token_bytes.decode() for merge in extended.merges]
    assert all(may_be_token(text.encode()) for text in texts)
    assert not any(character.isdigit() for text in texts for character in text)
    assert " wyvern" in texts and "wyvern" in texts
    assert any("東" in text for text in texts)  # made of characters that the base wrote as bytes
    assert all(" " not in text.lstrip(" ") for text in texts)


def test_the_growth_curve_is_what_the_encoders_say(extended):
    measured = extended.plan.texts.measured
    before, after = (
        sum(len(encoding.ids) for encoding in plain_text_encoder(one).encode_batch(list(measured)))
        for one in (extended.plan.base, extended.tokenizer)
    )
    size = sum(len(text.encode()) for text in measured)
    first, last = extended.curve.points[0], extended.curve.points[-1]
    assert (first.bytes_per_token, last.bytes_per_token) == pytest.approx((size / before, size / after))
    uses = [0] * len(extended.plan.tokens)
    for encoding in plain_text_encoder(extended.tokenizer).encode_batch(list(measured)):
        for id_ in encoding.ids:
            if extended.first_new_id <= id_ < extended.first_new_id + len(uses):
                uses[id_ - extended.first_new_id] += 1
    assert list(extended.curve.held_out_uses) == uses


def test_a_delta_gives_it_back(extended, folder, tmp_path):
    delta = save_delta(extended.model, extended.tokenizer, extended.first_new_id, tmp_path / "delta")
    applied = apply_delta(folder, delta)
    assert applied.certificate.flaws == () and applied.plan.characters
    assert applied.tokenizer.get_vocab() == extended.tokenizer.get_vocab()
    assert applied.tokenizer(fuzzed(300))["input_ids"] == extended.tokenizer(fuzzed(300))["input_ids"]


def test_protected_documents_keep_their_ids(folder, corpus):
    plan = make_plan(
        load_tokenizer(str(folder)), sort_texts(corpus, None, [JAPANESE[0], corpus[3]]), Wanted(new_tokens=40)
    )
    before, after = (plain_text_encoder(one) for one in (plan.base, plan.tokenizer))
    for text in plan.texts.protected:
        assert after.encode(text).ids == before.encode(text).ids
    assert plan.refused_tokens


def test_what_is_proposed_saves_what_the_extended_tokenizer_saves(folder, corpus):
    base = load_tokenizer(str(folder))
    proposal = propose(base, corpus, Wanted(new_tokens=40))
    plan = make_plan(base, sort_texts(corpus, None, ()), Wanted(new_tokens=40))
    before, after = (
        sum(len(encoding.ids) for encoding in plain_text_encoder(one).encode_batch(list(plan.texts.to_learn)))
        for one in (base, plan.tokenizer)
    )
    assert sum(token.saves for token in proposal.tokens) == before - after > 0
    assert all(b"".join(token.parts) == token.content for token in proposal.tokens)


@pytest.mark.parametrize(
    ("word", "why"),
    [("torch.nn", "is cut into"), ("a b", "is cut into"), ("  wyvern", "begins with more than one space")],
)
def test_a_word_that_no_merge_makes_is_refused(folder, corpus, word, why):
    with pytest.raises(InputError, match=why):
        make_plan(load_tokenizer(str(folder)), sort_texts(corpus, None, ()), Wanted(new_tokens=1, words=[word]))


def test_a_model_file_that_disagrees_is_refused(prose, tmp_path):
    base = write_spm_family("llama 2", tmp_path / "base", prose)
    other = write_spm_family("llama 2", tmp_path / "other", prose[::-1])
    wanted, texts = Wanted(new_tokens=1), sort_texts([prose], None, ())
    (base / "tokenizer.model").write_bytes((other / "tokenizer.model").read_bytes())
    with pytest.raises(InputError, match=r"tokenizer\.model: its piece \d+ is .*, expected .* as in tokenizer\.json"):
        make_plan(load_tokenizer(str(base)), texts, wanted)
    (base / "tokenizer.model").write_bytes(b"\x08\x01nothing of the kind")
    with pytest.raises(InputError, match=r"tokenizer\.model: is no SentencePiece model"):
        make_plan(load_tokenizer(str(base)), texts, wanted)


def test_a_pipeline_that_is_not_as_published_is_refused_by_its_stage(prose, tmp_path):
    folder = write_spm_family("gemma", tmp_path / "base", prose)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "NFKC"}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"found SentencePiece BPE .* with NFKC as well"):
        make_plan(load_tokenizer(str(folder)), sort_texts([prose], None, ()), Wanted(new_tokens=1))


def test_the_real_llama_2_vocabulary_and_sentencepieces_rule_agree(prose):
    base = loaded_tokenizer("llama2")
    plan = make_plan(base, sort_texts([*prose.split("\n\n"), *JAPANESE * 9], None, ()), Wanted(new_tokens=60))
    twin, texts = SentencePieceTwin(plan.tokenizer), [prose, *fuzzed(3000)]
    found = plan.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [twin.encode(text) for text in texts] == [encoding.ids for encoding in found]
