"""Rule R, exhaustively: small random vocabularies, and every string over their letters up to some length."""

import random
from itertools import product

import pytest
import tiktoken
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tokenizer_ext.bpe.byte_characters import GPT2_BYTE_ORDER, visible
from tokenizer_ext.bpe.merge_learning import learn_merges
from tokenizer_ext.bpe.piece_encoding import merge_by_rank
from tokenizer_ext.extension.piece_counts import count_pieces
from tokenizer_ext.extension.reachability import assert_reachable
from tokenizer_ext.huggingface.hf_tokenizer import append_merges, next_token_id, token_bytes

SYSTEMS = range(30)
BYTES = [bytes([byte]) for byte in GPT2_BYTE_ORDER]
STRINGS = ["".join(letters) for length in range(1, 7) for letters in product("abc", repeat=length)]


def _random_system(seed, *, keeps_rule):
    """The ranks of a vocabulary over a, b and c, and the merge that was meant for each token."""
    generator = random.Random(seed)
    ranks = {token: rank for rank, token in enumerate(BYTES)}
    merges: list[tuple[bytes, bytes]] = []
    parts = [b"a", b"b", b"c"]
    for _ in range(generator.randint(3, 14)):
        left, right = generator.choices(parts, k=2)
        if left + right not in ranks and (not keeps_rule or merge_by_rank(left + right, ranks) == [left, right]):
            ranks[left + right] = len(ranks)
            merges.append((left, right))
            parts.append(left + right)
    return ranks, merges


def _keeps_rule(ranks, merges):
    return all(merge_by_rank(left + right, ranks, below=ranks[left + right]) == [left, right] for left, right in merges)


def _strings(merges):
    return [*STRINGS, *((left + right).decode() for left, right in merges)]


def _by_pairs(ranks, merges, strings, *, ignore_merges=False):
    """Hugging Face's way: each merge is looked up by its pair."""
    vocabulary = {visible(token): rank for token, rank in ranks.items()}
    of_pairs = [(visible(left), visible(right)) for left, right in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=of_pairs, ignore_merges=ignore_merges))
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(strings)]


def _by_bytes(ranks, strings):
    """The twin's way: neighbours are looked up by the bytes that they join to."""
    return [[ranks[token] for token in merge_by_rank(text.encode(), ranks)] for text in strings]


def _by_whole_pieces(ranks, strings):
    """As tiktoken does: a piece that is a token, else neighbours by their joined bytes."""
    encoding = tiktoken.Encoding("small", pat_str=r"(?s:.+)", mergeable_ranks=ranks, special_tokens={})
    return encoding.encode_batch(strings, num_threads=1)


@pytest.mark.parametrize("seed", SYSTEMS)
def test_under_rule_r_pairs_bytes_and_whole_pieces_give_the_same_ids(seed):
    ranks, merges = _random_system(seed, keeps_rule=True)
    strings = _strings(merges)
    ids = _by_pairs(ranks, merges, strings)
    assert ids == _by_whole_pieces(ranks, strings)
    assert ids == _by_pairs(ranks, merges, strings, ignore_merges=True)
    every_tenth = slice(seed % 10, None, 10)  # the twin takes its time
    assert ids[every_tenth] == _by_bytes(ranks, strings[every_tenth])


def test_exactly_the_vocabularies_that_break_rule_r_have_encoders_that_differ():
    kept = []
    for seed in SYSTEMS:
        ranks, merges = _random_system(seed, keeps_rule=False)
        strings = _strings(merges)
        agree = _by_pairs(ranks, merges, strings) == _by_whole_pieces(ranks, strings)
        kept.append(_keeps_rule(ranks, merges))
        assert agree == kept[-1]
    assert 3 < sum(kept) < len(kept) - 3


def _fast_tokenizer(ranks, merges):
    of_pairs = [(visible(left), visible(right)) for left, right in merges]
    vocabulary = {visible(token): rank for token, rank in ranks.items()} | {"<|endoftext|>": len(ranks)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=of_pairs, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")


def _encoded(tokenizer, strings):
    return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(strings)]


@pytest.mark.parametrize("seed", SYSTEMS[:12])
def test_a_base_that_breaks_rule_r_is_continued_without_breaking_it_further(seed):
    ranks, merges = _random_system(seed, keeps_rule=False)
    base = _fast_tokenizer(ranks, merges)
    corpus = [" ".join(random.Random(seed).choices(STRINGS, k=200))]
    learned = learn_merges(count_pieces(corpus, base), token_bytes(base), new_tokens=30, first_id=next_token_id(base))
    extended = append_merges(base, learned)
    assert len(learned) == 30
    assert_reachable(extended, learned)
    strings = [*_strings(merges), *(merge.token_bytes.decode() for merge in learned)]
    before, after = _encoded(base, strings), _encoded(extended, strings)
    assert all(len(new) <= len(old) for old, new in zip(before, after, strict=True))
    # Whole pieces found one id for each token of the base, as before; of the new tokens they find no more than merges.
    by_merges = extended.backend_tokenizer
    by_merges.model.ignore_merges = False
    differing = {s for s, ids in zip(strings, after, strict=True) if by_merges.encode(s).ids != ids}
    assert {text.encode() for text in differing} <= ranks.keys()
