import pytest

from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.bpe.split_patterns import GPT4_SPLIT_PATTERN
from tokenizer_ext.bpe.vocabulary_listing import shown, vocabulary_lines


def test_a_vocabulary_is_listed_by_id_each_token_with_what_it_is_joined_from(small_bpe, tmp_path):
    small_bpe.write_vocabulary(tmp_path / "vocabulary.txt")
    lines = (tmp_path / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == small_bpe.vocabulary_size
    by_id = {id_: token for token, id_ in small_bpe.ranks.items()}
    assert lines[0] == "[!] 0"
    assert lines[-1] == "[<|endoftext|>] 399"
    for id_ in range(256, 399):
        left, right = lines[id_].split(" -> ")[0][1:-1].split("][")
        assert lines[id_] == f"[{left}][{right}] -> [{shown(by_id[id_])}] {id_}"
        assert left + right == shown(by_id[id_])


def test_parts_of_characters_and_controls_are_shown_on_one_line():
    bpe = train_bpe(["東京 東京\n\n\n\n"], 260, split_pattern=GPT4_SPLIT_PATTERN)
    lines = vocabulary_lines(bpe.ranks)
    assert all(len(line.splitlines()) == 1 for line in lines)
    assert any("[\\n][\\n] -> [\\n\\n]" in line for line in lines[256:])
    assert any("[\\xe6][\\x9d] -> [\\xe6\\x9d]" in line for line in lines[256:])


@pytest.mark.parametrize("token", ["aé東🙂", " ", "a\\b", "\x7f\x1b[0m\u202e\u00a0"])
def test_what_prints_is_shown_as_it_is_and_the_rest_as_python_reads_it(token):
    written = shown(token.encode())
    assert written.isprintable()
    assert eval(f'"{written}"') == token


def test_a_token_that_no_merge_leads_to_is_listed_without_parts(small_bpe):
    assert vocabulary_lines({**small_bpe.ranks, b"zyxw": 900})[-1] == "[zyxw] 900"
