"""What an extension adds, in what order, and what it is worth."""

import dataclasses

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.extension.corpus_files import Texts, sort_texts
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

WORDS = ["wyvern", " wyvern", " basilisk"]


@pytest.fixture(scope="module")
def texts(prose) -> Texts:
    return sort_texts([*prose.split("\n\n"), *(f"the wyverns and basilisks of {n}" for n in range(60))], None, [])


@pytest.fixture(scope="module")
def plan(small_tokenizer, texts) -> Plan:
    return make_plan(small_tokenizer, texts, Wanted(new_tokens=50, words=WORDS, control_tokens=["<|user|>"]))


def test_words_come_first_then_learned_tokens_on_top_of_them_then_control_tokens(plan: Plan):
    first = plan.first_new_id
    assert [merge.token for merge in plan.merges] == list(range(first, first + len(plan.merges)))
    made_for_words = [merge.token_bytes.decode() for merge in plan.merges[: plan.word_tokens]]
    assert set(WORDS) <= set(made_for_words)
    learned = plan.merges[plan.word_tokens :]
    assert len(learned) == 50
    word = first + made_for_words.index(" wyvern")
    assert any(word in (merge.left, merge.right) and merge.token_bytes == b" wyverns" for merge in learned)
    assert plan.tokenizer.convert_tokens_to_ids("<|user|>") == first + len(plan.merges)
    assert plan.new_ids == len(plan.merges) + 1


def test_the_curve_ends_where_the_tokenizer_itself_does(plan: Plan, texts: Texts):
    assert plan.curve is not None and len(plan.curve.uses) == len(plan.merges)
    for tokenizer, point in [(plan.base, plan.curve.points[0]), (plan.tokenizer, plan.curve.points[-1])]:
        encoder = plain_text_encoder(tokenizer)
        tokens = sum(len(encoder.encode(text)) for text in texts.held_out)
        assert point.bytes_per_token == pytest.approx(sum(len(text.encode()) for text in texts.held_out) / tokens)


def test_uses_are_how_often_a_token_stands_in_the_texts_that_were_learned_from(plan: Plan, texts: Texts):
    encoder = plain_text_encoder(plan.tokenizer)
    ids = [id_ for text in texts.to_learn for id_ in encoder.encode(text).ids]
    assert plan.curve is not None
    assert list(plan.curve.uses) == [ids.count(merge.token) for merge in plan.merges]


def test_a_protected_document_keeps_its_ids_and_what_that_costs_is_counted(small_tokenizer, texts: Texts, prose):
    protected = dataclasses.replace(texts, protected=[prose[:3000]])
    free = make_plan(small_tokenizer, texts, Wanted(new_tokens=50))
    plan = make_plan(small_tokenizer, protected, Wanted(new_tokens=50))
    before = plain_text_encoder(small_tokenizer).encode(prose[:3000]).ids
    assert plain_text_encoder(free.tokenizer).encode(prose[:3000]).ids != before
    assert plain_text_encoder(plan.tokenizer).encode(prose[:3000]).ids == before
    tokens = [{merge.token_bytes for merge in one.merges} for one in (free, plan)]
    assert free.refused_tokens is None and plan.refused_tokens == len(tokens[0] - tokens[1]) > 0


def test_learned_tokens_are_no_longer_than_asked_and_words_may_be(small_tokenizer, texts: Texts):
    plan = make_plan(small_tokenizer, texts, Wanted(new_tokens=50, words=[" basilisk"], maximum_bytes=4))
    lengths = [len(merge.token_bytes) for merge in plan.merges]
    assert max(lengths[plan.word_tokens :]) == 4 < max(lengths[: plan.word_tokens])


def test_without_text_there_is_no_curve(small_tokenizer):
    plan = make_plan(small_tokenizer, Texts(), Wanted(new_tokens=0, words=[" basilisk"]))
    assert plan.curve is None and plan.word_tokens == len(plan.merges) > 0


def test_where_no_token_is_made_of_text_none_is_read_and_any_family_will_do(prose):
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words = PreTrainedTokenizerFast(tokenizer_object=backend)
    texts = sort_texts(prose.split("\n\n"), None, [])
    unchanged = make_plan(words, texts, Wanted(new_tokens=0))
    assert unchanged.tokenizer is words and unchanged.new_ids == 0 and unchanged.curve is None
    plan = make_plan(words, texts, Wanted(new_tokens=0, control_tokens=["<|user|>"]))
    assert plan.new_ids == 1 and plan.tokenizer.convert_tokens_to_ids("<|user|>") == 2
    for wanted in (Wanted(new_tokens=1), Wanted(new_tokens=0, words=["b"])):
        with pytest.raises(InputError, match=r"found whole words, .* tuning without --new_tokens works"):
            make_plan(words, texts, wanted)


def test_what_the_corpus_supports_is_said_in_the_words_of_the_wish(small_tokenizer):
    texts = Texts(to_learn=["zebra zebra", "aardvark 1999 1999"])
    wanted = Wanted(new_tokens=100)
    with pytest.raises(InputError, match=r"asked for 100, the corpus supports (\d+), whose") as refused:
        make_plan(small_tokenizer, texts, wanted)
    supported = int(str(refused.value).split("supports ")[1].split(",")[0])
    assert 0 < supported == len(make_plan(small_tokenizer, texts, Wanted(new_tokens=supported)).merges)


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ({"new_tokens": -1}, "new_tokens: found -1, expected 0 or more"),
        ({"minimum_count": 0}, "minimum_count: found 0, expected 1 or more"),
        ({"maximum_bytes": 1}, "maximum_bytes: found 1, expected 2 or more"),
        ({"words": "wyvern"}, r"words: found one string \('wyvern'\), expected a list"),
        ({"words": ["<|a|>b"], "control_tokens": ["<|a|>"]}, r"words: '<\|a\|>b' holds the control token '<\|a\|>'"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused_before_anything_is_read(wish, found: str):
    with pytest.raises(InputError, match=found):
        Wanted(**wish)


def test_a_token_that_is_left_out_is_not_learned_and_the_next_ones_take_its_place(small_tokenizer, texts):
    usual = make_plan(small_tokenizer, texts, Wanted(new_tokens=30))
    struck = [usual.merges[0].token_bytes, usual.merges[7].token_bytes]
    plan = make_plan(small_tokenizer, texts, Wanted(new_tokens=30, leave_out=struck))
    learned = [merge.token_bytes for merge in plan.merges]
    assert len(learned) == 30
    assert not set(learned) & set(struck)
    assert usual.merges[1].token_bytes in learned


def test_a_word_cannot_be_wanted_and_left_out():
    with pytest.raises(InputError, match="words: ' wyvern' is also one of the tokens to leave out"):
        Wanted(words=[" wyvern"], leave_out=[b" wyvern"])
