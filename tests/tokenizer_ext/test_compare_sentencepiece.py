import re
import sys

import pytest

from configs import InputError, load_config
from tokenizer_ext.compare_sentencepiece import ComparisonSettings, main
from tokenizer_ext.inspection.sentencepiece_bpe import train_sentencepiece


def run(*arguments: str) -> None:
    main(load_config(ComparisonSettings, list(arguments)))


@pytest.fixture
def corpus(prose, tmp_path) -> str:
    (tmp_path / "prose.txt").write_text(prose, encoding="utf-8")
    return str(tmp_path / "prose.txt")


def test_both_have_the_size_asked_for_and_give_the_text_back(corpus, capsys):
    run("--corpus", corpus, "--vocabulary_size", "600", "--text", "a\u00e9 b")
    said = capsys.readouterr().out
    rows = {line[:34].strip(): line[34:].split() for line in said.splitlines()[1:-2]}
    assert rows["tokens"] == ["600", "600"] and rows["of them single bytes"] == ["256", "256"]
    assert rows["this text comes back whole"] == ["yes", "yes"]
    assert said.splitlines()[-1].split() == ["SentencePiece", "[▁a]", "[<0xC3>]", "[<0xA9>]", "[▁b]"]
    assert re.fullmatch(r"byte-level BPE +\[a\] \[\\xc3\] \[\\xa9\] \[ b\]", said.splitlines()[-2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--vocabulary_size", "299"), "vocabulary_size is 299, expected at least 300"),
        (("--vocabulary_size", "90000"), "vocabulary_size: found 90000, expected at most"),
        (("--corpus", "nothing.txt"), "corpus nothing.txt: no such file"),
    ],
)
def test_a_mistake_is_one_line(corpus, arguments, message):
    with pytest.raises(InputError, match=message) as error:
        run("--corpus", corpus, *arguments)
    assert "\n" not in str(error.value)


def test_a_text_too_short_for_sentencepiece_is_told_as_such():
    with pytest.raises(InputError, match="SentencePiece does not learn 400 tokens from this text") as error:
        train_sentencepiece("a short text", 400)
    assert "\n" not in str(error.value)


def test_without_the_library_the_command_says_how_to_get_it(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"pip install 'graft-lm\[sentencepiece\]'"):
        run("--corpus", corpus)
