import re

import pytest
import tiktoken

from configs import InputError, load_config
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.tiktoken_files import write_ranks
from tokenizer_ext.recover import RecoverSettings, main


def run(*arguments: str) -> None:
    main(load_config(RecoverSettings, list(arguments)))


@pytest.mark.long
def test_gpt2s_tokenizer_is_recovered_with_its_50000_merges_and_saved(gpt2_file, gpt2_ranks, tmp_path, capsys):
    run("--ranks", str(gpt2_file), "--output_dir", str(tmp_path / "out"))
    said = capsys.readouterr().out
    assert "merges: 50,000, from [ ][t] -> 256 to [ g][azed] -> 50255" in said
    opened = BytePairEncoding.load(tmp_path / "out" / "bpe.json")
    ids = [int(number) for number in re.findall(r"\d+", said.split("ids: ")[1].splitlines()[0])]
    assert opened.decode(ids) == RecoverSettings().text and opened.ranks == gpt2_ranks
    merges = (tmp_path / "out" / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert merges[:2] == ["#version: 0.2", "Ġ t"] and len(merges) == 50_001  # as GPT-2's own vocab.bpe begins


def test_an_encoding_is_found_by_tiktokens_name(small_bpe, prose, tmp_path, monkeypatch, capsys):
    encoding = tiktoken.Encoding(
        "cl100k_base", pat_str=r"\s?\w+|\W", mergeable_ranks=small_bpe.ranks, special_tokens={"<|x|>": 500}
    )
    monkeypatch.setattr("tiktoken.get_encoding", {"cl100k_base": encoding}.__getitem__)  # the network is not there
    (tmp_path / "corpus.txt").write_text(prose, encoding="utf-8")
    run("--corpus", str(tmp_path / "corpus.txt"))
    said = capsys.readouterr().out
    assert "special tokens: 1" in said and "all as tiktoken gives them" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ranks", "nothing"), r"ranks nothing: no such file, expected a \.tiktoken file or one of .*cl100k_base"),
        (("--ranks", "cl100k_base"), r"ranks cl100k_base: cannot be downloaded \(\w+\)"),
        (("--ranks", "odd.tiktoken"), r"b'qqzzqq' of rank 900 comes to \d earlier tokens"),
        (("--text", ""), r"text is empty"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, message, small_bpe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setattr("requests.get", _no_network)
    write_ranks({**small_bpe.ranks, b"qqzzqq": 900}, "odd.tiktoken")
    with pytest.raises(InputError, match=message) as error:
        run(*arguments, "--output_dir", "out")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.tiktoken"]


def _no_network(*_: object, **__: object) -> None:
    raise OSError("no network in tests")
