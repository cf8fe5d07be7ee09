import base64

import pytest
import tiktoken.load
from tokenizers import Tokenizer, models, pre_tokenizers

from configs import InputError, MissingInput
from tokenizer_ext.bpe.byte_characters import visible
from tokenizer_ext.bpe.tiktoken_files import merges_from_ranks, read_ranks, to_tiktoken, write_ranks


def test_ranks_are_read_as_tiktoken_reads_them(gpt2_file, gpt2_ranks, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # else tiktoken leaves a copy in the machine's temporary folder
    assert gpt2_ranks == tiktoken.load.load_tiktoken_bpe(str(gpt2_file))


def test_a_file_read_and_written_is_the_same_to_the_byte(gpt2_file, gpt2_ranks, tmp_path):
    write_ranks(gpt2_ranks, tmp_path / "copy.tiktoken")
    assert (tmp_path / "copy.tiktoken").read_bytes() == gpt2_file.read_bytes()


def test_the_encoding_made_for_tiktoken_gives_the_same_ids(small_bpe, prose):
    encoding = to_tiktoken(small_bpe, "small")
    assert encoding.name == "small"
    assert encoding.n_vocab == small_bpe.vocabulary_size
    text = prose + "<|endoftext|>" + prose[:100]
    assert encoding.encode(text, allowed_special="all") == small_bpe.encode(text, allowed_special="all")


def test_the_merges_recovered_give_the_tokenizers_library_tiktokens_ids(gpt2_ranks, gpt2_bpe, shakespeare):
    merges = [(visible(left), visible(right)) for left, right in merges_from_ranks(gpt2_ranks)]
    assert len(merges) == 50_000  # as GPT-2's own vocab.bpe
    vocabulary = {visible(token): rank for token, rank in gpt2_ranks.items()}
    loaded = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    loaded.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert loaded.encode(shakespeare).ids == to_tiktoken(gpt2_bpe, "gpt2").encode(shakespeare)


def test_a_token_that_no_merge_leads_to_is_named(small_bpe):
    with pytest.raises(InputError, match=r"b'qqzzqq' of rank 900 comes to \d earlier tokens"):
        merges_from_ranks({**small_bpe.ranks, b"qqzzqq": 900})


GOOD_LINE = base64.b64encode(b"a") + b" 0\n"


@pytest.mark.parametrize("bad_line", [b"YQ==", b"YQ== x", b"Yg*== 1", b"YQ== 1 2", b"YQ== 1"])
def test_a_line_that_is_no_rank_is_named_with_its_number(tmp_path, bad_line):
    path = tmp_path / "ranks.tiktoken"
    path.write_bytes(GOOD_LINE + b"\n" + bad_line)
    with pytest.raises(InputError, match=r"ranks\.tiktoken:3: found .* expected "):
        read_ranks(path)


def test_a_missing_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(MissingInput, match=r"absent\.tiktoken: no such file"):
        read_ranks(tmp_path / "absent.tiktoken")
    (tmp_path / "empty.tiktoken").write_bytes(b"\n")
    with pytest.raises(InputError, match="found no token"):
        read_ranks(tmp_path / "empty.tiktoken")
