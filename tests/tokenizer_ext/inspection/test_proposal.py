"""What a proposal says that tokens save is what the extended tokenizer saves; what is struck is not proposed."""

from dataclasses import replace

import pytest

from configs import InputError
from tokenizer_ext.extension.corpus_files import sort_texts, split_documents
from tokenizer_ext.extension.plan import make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.inspection.proposal import propose
from tokenizer_ext.inspection.proposal_page import curve_as_html, tokens_as_html

NEW = 60


@pytest.fixture(scope="module")
def documents(prose):
    return [*split_documents(prose), "aaa aaaa aaaaa " * 30]


def test_what_the_tokens_save_is_by_how_much_the_extended_tokenizer_is_shorter(small_tokenizer, documents):
    proposal = propose(small_tokenizer, documents, Wanted(new_tokens=NEW))
    texts = sort_texts(documents, None, ())
    extended = make_plan(small_tokenizer, texts, Wanted(new_tokens=NEW)).tokenizer

    def tokens(tokenizer, some) -> int:
        return sum(len(tokenizer.encode(text)) for text in some)

    before, after = (tokens(one, texts.to_learn) for one in (small_tokenizer, extended))
    assert sum(token.saves for token in proposal.tokens) == before - after > 0
    before, after = (tokens(one, texts.held_out) for one in (small_tokenizer, extended))
    assert proposal.points[-1] == (NEW, pytest.approx(1 - after / before))
    assert 0 <= proposal.knee <= NEW and proposal.saved_at_knee <= proposal.points[-1][1]
    assert all(b"".join(token.parts) == token.content for token in proposal.tokens)


def test_a_struck_token_makes_room_for_another_and_a_word_is_taken(small_tokenizer, documents):
    usual = propose(small_tokenizer, documents, Wanted(new_tokens=NEW))
    struck = usual.tokens[0].content
    wanted = Wanted(new_tokens=NEW, words=[" wyvern"], leave_out=[struck])
    proposal = propose(small_tokenizer, documents, wanted)
    contents = [token.content for token in proposal.tokens]
    assert struck not in contents and b" wyvern" in contents
    assert sum(not token.is_word for token in proposal.tokens) == NEW


def test_the_page_names_the_knee_and_shows_tokens_as_text(small_tokenizer):
    documents = [f"{'<>' * (n % 9)} quokka quokkas {n}" for n in range(50)]
    proposal = propose(small_tokenizer, documents, Wanted(new_tokens=12))
    curve, tokens = curve_as_html(proposal), tokens_as_html(proposal)
    assert proposal.knee > 0
    assert f"The knee is at {proposal.knee}," in curve and 'role="img"' in curve and "circle" in curve
    straight = replace(proposal, knee=0)
    assert "no knee" in curve_as_html(straight) and "circle" not in curve_as_html(straight)
    assert "<>" not in tokens and "&lt;&gt;" in tokens
    assert tokens.count("data-strike=") == 12


def test_a_text_that_supports_fewer_tokens_says_how_many(small_tokenizer):
    with pytest.raises(InputError, match="the corpus supports"):
        propose(small_tokenizer, ["quokka quokka"], Wanted(new_tokens=NEW))
