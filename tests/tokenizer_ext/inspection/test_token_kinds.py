import copy

import pytest
from tokenizers import AddedToken, Tokenizer, models
from transformers import PreTrainedTokenizerFast

from configs import InputError
from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.merge_learning import Merge
from tokenizer_ext.huggingface.byte_level_backend import backend_json
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.inspection.token_kinds import TokenKind, is_within_text, reachable_ids, sort_tokens

WORLD = "Größe 東京都は日本の首都である。 Привет, мир! 🙂🙃 "


@pytest.fixture(scope="module", params=EACH_FAMILY)
def family(request, prose):
    return family_tokenizer(request.param, [prose, WORLD * 30])


def with_merge(tokenizer, left: bytes, right: bytes):
    """The tokenizer with one more token, made of two that it has, and that token's id."""
    id_of = {token: id_ for id_, token in token_bytes(tokenizer).items()}
    token = next_token_id(tokenizer)
    return append_merges(tokenizer, [Merge(id_of[left], id_of[right], token, left + right, 1)]), token


def test_every_id_of_every_family_has_one_kind(family):
    kinds = sort_tokens(family)
    assert set(kinds) == set(family.get_vocab().values())
    added = {id_: token.special for id_, token in family.added_tokens_decoder.items()}
    assert {id_: kinds[id_].kind == "control" for id_ in added} == added
    assert sum(found.kind == "never text" for found in kinds.values()) == 13


def test_an_ordinary_token_stands_in_the_ids_of_its_text(family):
    encoder, bytes_of_id = plain_text_encoder(family), token_bytes(family)
    ordinary = [id_ for id_, found in sort_tokens(family).items() if found.kind == "ordinary"]
    assert len(ordinary) > 200
    alone = [id_ for id_ in ordinary if encoder.encode(bytes_of_id[id_].decode()).ids == [id_]]
    assert len(alone) >= len(ordinary) - 5  # the others need something beside them


def test_pieces_of_characters_that_merges_reach_stand_apart_from_bytes_that_no_text_holds(family):
    kinds, bytes_of_id = sort_tokens(family), token_bytes(family)
    partial = [id_ for id_, found in kinds.items() if found.kind == "partial"]
    assert any(len(bytes_of_id[id_]) > 1 for id_ in partial)
    encoder = plain_text_encoder(family)
    seen = {id_ for text in (WORLD, *WORLD) for id_ in encoder.encode(text).ids}
    assert {id_ for id_ in seen if kinds[id_].kind in ("never text", "partial without text", "unreachable")} == set()
    assert {bytes_of_id[id_] for id_, found in kinds.items() if found.kind == "never text"} == {
        bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))
    }


def test_a_token_that_no_merge_leads_to_is_unreachable_even_where_whole_pieces_are_looked_up(prose):
    tokenizer = family_tokenizer("llama 3", [prose])
    backend = tokenizer.backend_tokenizer
    merges = [tuple(pair) for pair in backend_json(tokenizer)["model"]["merges"]]
    vocabulary = backend.get_vocab(with_added_tokens=False) | {visible(b"zqx"): 500}
    backend.model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True)
    assert backend.encode("zqx", add_special_tokens=False).ids == [500]
    assert sort_tokens(tokenizer)[500] == TokenKind("unreachable", "merges make 'z', 'q', 'x' of it")


def test_a_token_that_the_pre_tokenizer_cuts_is_unreachable_and_says_how(small_tokenizer):
    tokenizer, token = with_merge(small_tokenizer, b"a", b" ")
    assert sort_tokens(tokenizer)[token].kind == "unreachable"
    assert sort_tokens(tokenizer)[token].reason == "the pre-tokenizer cuts it into 'a', 'Ġ'"
    assert token not in reachable_ids(tokenizer)


def test_a_token_that_the_normaliser_changes_is_unreachable_and_says_how(prose):
    tokenizer = family_tokenizer("qwen 2", [prose, "e\u0301 " * 99])
    accent = "\u0301".encode()
    if accent not in token_bytes(tokenizer).values():
        tokenizer, _ = with_merge(tokenizer, accent[:1], accent[1:])
    tokenizer, token = with_merge(tokenizer, b"e", accent)
    assert sort_tokens(tokenizer)[token].reason == "the normaliser makes 'é' of it"


def test_bytes_that_stand_in_no_text_are_told_by_their_places_in_characters():
    assert all(is_within_text(one) for one in (b"", b"\x80", b"\x80\x80\x80", b"\xf0\x9f", "é".encode() + b"\xe6"))
    assert not any(
        is_within_text(one) for one in (b"\x80" * 4, b"\xc0\x80", b"\xe0\x80", b"\xf4\x90", b"\xc3a", b"\xff")
    )


def test_added_words_are_not_control_tokens(small_tokenizer):
    tokenizer = copy.deepcopy(small_tokenizer)
    tokenizer.add_tokens([AddedToken("hyperdrive", normalized=False)])
    kinds = sort_tokens(tokenizer)
    assert (kinds[400].kind, kinds[399].kind) == ("added word", "control")


def test_another_family_of_tokenizers_is_refused_by_name():
    sentencepiece = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", 0.0)])))
    with pytest.raises(InputError, match="found SentencePiece Unigram"):
        sort_tokens(sentencepiece)
