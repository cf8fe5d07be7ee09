"""What an extension claims of text and tokens is counted, and each count sees what it is for."""

import dataclasses

import pytest
from tokenizers import AddedToken

from tests.tokenizer_ext.extension.test_certificate import gpt2
from tokenizer_ext.bpe.merge_learning import Merge
from tokenizer_ext.encoders import agreement as encoder_agreement
from tokenizer_ext.encoders.agreement import compare_encoders, evenly_spaced_documents
from tokenizer_ext.extension.certificate import hash_weights
from tokenizer_ext.extension.checks import (
    certify,
    compare,
    count_moved_ids,
    count_unequal,
    reload,
)
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, append_merges, next_token_id, token_bytes
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.huggingface.tiktoken_export import twin_of


@pytest.fixture(scope="module")
def plan(small_tokenizer, prose) -> Plan:
    """60 tokens learned from English and Japanese, and a control token."""
    texts = sort_texts([*prose.split("\n\n"), "Größe 東京都は日本の首都である。" * 9], [prose[:999]], [])
    return make_plan(small_tokenizer, texts, Wanted(new_tokens=60, control_tokens=["<|user|>"]))


def certified(plan: Plan):
    model = gpt2(rows=next_token_id(plan.tokenizer))
    return certify(plan, model, hash_weights(model, 400), rows_before=400)


def test_an_honest_extension_holds(plan: Plan):
    certificate = certified(plan)
    assert certificate.holds
    assert any("\ufffd" in merge.token_bytes.decode(errors="replace") for merge in plan.merges)  # pieces of characters
    reached = dataclasses.asdict(certificate.reached)
    assert sum(reached.values()) == 60 and reached["by_completed_character"] + reached["by_corpus_piece"] > 0


def test_a_token_across_two_pre_tokens_is_counted_as_unreachable(plan: Plan):
    # The cut between them comes before any merge.
    learned = append_merges(plan.base, plan.merges)
    ids = {text: token for token, text in token_bytes(learned).items()}
    across = Merge(ids[b"a"], ids[b" "], next_token_id(learned), b"a ", 2)
    flawed = dataclasses.replace(
        plan, tokenizer=append_merges(learned, [across]), merges=(*plan.merges, across), control_tokens=()
    )
    assert certified(flawed).unreachable_tokens == 1
    assert "unreachable_tokens" in certified(flawed).flaws


def test_moved_ids_are_counted(plan: Plan):
    ids = plan.base.get_vocab()
    assert count_moved_ids(ids, plan.tokenizer.get_vocab()) == 0
    assert count_moved_ids(ids, ids | {"a": ids["b"], "b": ids["a"]}) == 2
    assert count_moved_ids(ids, {token: id_ for token, id_ in ids.items() if token != "a"}) == 1


def test_documents_that_get_longer_or_other_ids_are_counted(plan: Plan, small_bpe):
    documents = ["a class and an import", "", "<|endoftext|>", "東京"]
    base, extended = plain_text_encoder(plan.base), plain_text_encoder(plan.tokenizer)
    counts = compare(base, extended, documents)
    lengths = [len(small_bpe.encode_ordinary(text)) for text in documents]
    assert (counts.documents, counts.tokens_before, counts.longer) == (4, sum(lengths), 0)
    assert counts.changed > 0 and counts.tokens_after < counts.tokens_before
    back = compare(extended, base, documents)
    assert (back.longer, back.changed) == (counts.changed, counts.changed)
    assert compare(base, extended, []).documents == 0


def test_ids_after_a_reload_are_compared_and_control_tokens_with_them(plan: Plan):
    assert count_unequal(plan.tokenizer, reload(plan.tokenizer), ["a class", "<|user|>a"]) == 0
    assert count_unequal(plan.tokenizer, plan.base, ["zzz"]) == 1  # the text of all control tokens
    assert (
        count_unequal(
            plan.tokenizer, add_control_tokens(plan.base, ["<|user|>"]), ["zzz", "東京都は日本の首都である。"]
        )
        == 2
    )


DOCUMENTS = ["Größe 東京都は日本の首都である。<|user|>", "z"]


def test_other_encoders_are_compared_on_every_document_and_the_control_tokens(plan: Plan, monkeypatch):
    agreement = compare_encoders(plan.base, plan.tokenizer, DOCUMENTS)
    assert (agreement.documents, agreement.unequal_documents, agreement.reason) == (3, 0, "")
    monkeypatch.setattr(encoder_agreement, "twin_of", lambda _: twin_of(plan.base))  # a twin of another tokenizer
    assert compare_encoders(plan.base, plan.tokenizer, DOCUMENTS).unequal_documents == 2


@pytest.fixture
def without_form(plan: Plan):
    """A tokenizer that tiktoken has no form for."""
    tokenizer = reload(plan.base)
    tokenizer.add_tokens([AddedToken("<|user|>", single_word=True)])
    return tokenizer


def test_a_base_without_a_tiktoken_form_is_not_compared_and_the_reason_is_kept(without_form):
    agreement = compare_encoders(without_form, without_form, DOCUMENTS)
    assert agreement.unequal_documents is None and "with single_word" in agreement.reason


def test_an_extension_that_loses_the_tiktoken_form_of_its_base_disagrees(plan: Plan, without_form):
    agreement = compare_encoders(plan.base, without_form, DOCUMENTS)
    assert agreement.unequal_documents == agreement.documents == 3 and "with single_word" in agreement.reason


@pytest.mark.parametrize("limit", [1, 7, 100, 10_000])
def test_the_documents_that_encoders_are_compared_on_are_no_more_text_than_asked(limit: int):
    documents = ["x" * 20] * 30
    assert 0 < sum(map(len, evenly_spaced_documents(documents, limit))) <= max(limit, 20)
