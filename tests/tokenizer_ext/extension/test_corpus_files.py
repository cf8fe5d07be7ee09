"""What a user's files hold, and which part of it is learned from, measured on, or kept as it is."""

import pytest

from configs import InputError
from tokenizer_ext.extension.corpus_files import read_documents, read_left_out, read_words, sort_texts, word_forms


def test_documents_are_the_paragraphs_of_a_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_bytes("\n\nfirst\nstill first\n \t\nsecond\r\n\r\nthird é\n\n\n".encode())
    assert [text.strip() for text in read_documents(path)] == ["first\nstill first", "second", "third é"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffnaïve\r\ncafé\n".encode())
    assert read_words(path) == ["naïve", "café"]
    assert read_documents(path) == ["naïve\r\ncafé\n"]


def test_a_document_stands_in_one_part_only_and_once():
    corpus = [f"document {number % 15}" for number in range(40)]
    texts = sort_texts(corpus, None, ["kept", "kept"])
    assert len(texts.to_learn) == 14 and len(texts.held_out) == 1 and texts.duplicates == 25
    assert set(texts.to_learn) | set(texts.held_out) == set(corpus) and texts.measured == texts.held_out
    assert texts.protected == ["kept"]


def test_a_document_of_the_held_out_file_is_not_learned_from():
    texts = sort_texts(["a", "b", "c"], ["b", "d", "d"], [])
    assert (texts.to_learn, texts.held_out, texts.duplicates) == (["a", "c"], ["b", "d"], 2)


def test_half_a_surrogate_pair_is_read_as_the_replacement_character():
    assert sort_texts(["a\ud83d"], None, []).to_learn == ["a\ufffd"]


@pytest.mark.parametrize("field", ["corpus", "held_out", "protect"])
def test_one_string_is_no_list_of_documents(field: str):
    given = {"corpus": [], "held_out": [], "protect": [], field: "text.txt"}
    with pytest.raises(InputError, match=rf"{field}: found one string \('text.txt'\), expected a list"):
        sort_texts(given["corpus"], given["held_out"], given["protect"])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("one\n\ntwo\n", r"words.txt:2: is empty"),
        ("", "words.txt: is empty, expected a word on every line"),
        ("caf\udce9", "byte 3 is not UTF-8"),
    ],
)
def test_a_file_of_words_that_cannot_be_read_is_refused(tmp_path, content: str, found: str):
    path = tmp_path / "words.txt"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=found):
        read_words(path)


KNOWN = [b"cat", b" cat", b"dog"]


@pytest.mark.parametrize(
    ("words", "forms", "wanted", "left_out"),
    [
        (["emu"], "as_written", ["emu"], []),
        ([" emu"], "as_written", [" emu"], []),
        (["emu", " gnu"], "after_space", [" emu", " gnu"], []),
        (["emu"], "both", ["emu", " emu"], []),
        (["dog"], "both", [" dog"], ["dog"]),  # one form is new
        (["cat"], "both", ["cat", " cat"], []),  # none is: learning refuses it by name
        (["dog"], "as_written", ["dog"], []),
    ],
)
def test_a_form_is_left_out_only_where_the_other_one_is_new(words, forms, wanted, left_out):
    assert word_forms(words, forms, KNOWN) == (wanted, left_out)


def test_tokens_to_leave_out_are_read_as_tokenizer_json_writes_them(tmp_path):
    (tmp_path / "struck.txt").write_text("Ġmodel\nĊĊ\n\nÃ©\r\n", encoding="utf-8")
    assert read_left_out(tmp_path / "struck.txt") == {b" model", b"\n\n", "é".encode()}


def test_a_token_with_a_real_space_is_refused_with_its_line_and_what_to_write(tmp_path):
    (tmp_path / "struck.txt").write_text("Ġmodel\n model\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"struck.txt:2: ' model' holds ' '.*write Ġ for it"):
        read_left_out(tmp_path / "struck.txt")
