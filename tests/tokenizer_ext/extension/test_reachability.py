import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.tokenizer_ext.families import EACH_FAMILY, family_tokenizer
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.merge_learning import Merge, learn_merges
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.extension.reachability import completions, find_witnesses
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

WORLD = "Größe, naïve café: 東京都は日本の首都である。 中国的首都是北京。 Привет, мир! سلام 🙂🙃🙂 हिन्दी भाषा "


@pytest.fixture(scope="module", params=EACH_FAMILY)
def tokenizer(request, prose):
    return family_tokenizer(request.param, [prose[:20_000]])


def _extended(tokenizer, texts, new_tokens=300):
    pieces = count_pieces(texts, tokenizer)
    merges = learn_merges(
        pieces, token_bytes(tokenizer), new_tokens=new_tokens, first_id=next_token_id(tokenizer), minimum_count=1
    )
    return append_merges(tokenizer, merges), merges, pieces


def test_every_learned_token_has_a_text_whose_ids_hold_it(tokenizer, prose):
    extended, merges, pieces = _extended(tokenizer, [*prose.split("\n\n"), WORLD * 9])
    witnesses = find_witnesses(extended, merges, pieces)
    assert [witness.token for witness in witnesses] == [merge.token for merge in merges]
    assert "none" not in {witness.how for witness in witnesses}
    encoder = plain_text_encoder(extended)
    encoder.model.ignore_merges = False
    assert all(witness.token in encoder.encode(witness.text).ids for witness in witnesses)


def test_tokens_within_characters_are_found_by_completing_them(tokenizer):
    extended, merges, _ = _extended(tokenizer, [WORLD * 9])
    witnesses = find_witnesses(extended, merges)
    of_parts = [
        witness
        for witness, merge in zip(witnesses, merges, strict=True)
        if merge.token_bytes != merge.token_bytes.decode(errors="ignore").encode()
    ]
    assert {witness.how for witness in of_parts} == {"completed character"}


def test_a_token_whose_own_text_is_cut_is_found_in_a_piece_of_the_corpus():
    # A quote is cut off a word, unless a letter stands before it.
    vocabulary = {visible(bytes([byte])): byte for byte in range(256)} | {"<|endoftext|>": 256}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    split = pre_tokenizers.Split(Regex(r"\p{L}+'\p{L}+|\p{L}+|[^\p{L}]"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    base = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    extended, merges, pieces = _extended(base, ["don't", "can't", "won't"], new_tokens=1)
    assert [merge.token_bytes for merge in merges] == [b"'t"]
    assert [witness.how for witness in find_witnesses(extended, merges)] == ["none"]
    (witness,) = find_witnesses(extended, merges, pieces)
    assert (witness.how, witness.text) == ("corpus piece", "can't")


def test_a_token_that_no_merge_reaches_has_no_witness_even_where_whole_pieces_are_looked_up(prose):
    for family in ("llama 3", "gpt2"):
        tokenizer = family_tokenizer(family, [prose[:20_000]])
        ids = {token: id_ for id_, token in token_bytes(tokenizer).items()}
        first_id = next_token_id(tokenizer)
        joined = next(token for token in ids if len(token) == 2 and token.isalpha())
        reached = Merge(ids[joined[1:]], ids[b"Q"], first_id, joined[1:] + b"Q", count=1)
        unreached = Merge(ids[joined[:1]], first_id, first_id + 1, joined + b"Q", count=1)
        extended = append_merges(tokenizer, [reached, unreached])
        pieces = count_pieces([(joined + b"Q").decode()], tokenizer)
        assert [witness.how for witness in find_witnesses(extended, [reached, unreached], pieces)] == [
            "own text",
            "none",
        ]


@pytest.mark.parametrize("character", ["é", "東", "🙂"])
def test_completions_hold_the_token_and_are_whole_text(character):
    encoded = character.encode()
    parts = {encoded[:cut] for cut in range(1, len(encoded))} | {encoded[cut:] for cut in range(1, len(encoded))}
    for part in [*parts, b" " + encoded[:1], encoded[-1:] + b" a"]:
        texts = [text for text, _ in zip(completions(part), range(50), strict=False)]
        assert texts
        assert all(part in text.encode() for text in texts)
    assert list(completions(encoded)) == []


def test_every_part_of_every_kind_of_character_can_be_completed():
    for character in ("é", "東", "🙂"):
        encoded = character.encode()
        for part in (encoded[:-1], encoded[1:]):
            assert character in set(completions(part))
