"""The pieces of a text hold all of its bytes, whatever the family, and name every character that they hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.real_tokenizers import loaded_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, to_hf_tokenizer
from tokenizer_ext.inspection.pieces import cut_text, vocabulary_pieces
from tokenizer_ext.inspection.pieces_page import (
    compare_counts,
    compared_as_html,
    describe_piece,
    marked_text,
    piece_bytes_of,
    pieces_as_html,
)

TEXT = "The café's\u0301 naïve: 東京 🙂\t\x1b[0m  12\r\n<b>&{x}\u200b"


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "family", ["qwen3", "llama2", pytest.param("llama3_1", marks=LONG), pytest.param("gemma3", marks=LONG)]
)
def test_the_pieces_of_a_published_tokenizer_are_its_ids_and_hold_the_bytes_that_it_reads(family: str):
    tokenizer = loaded_tokenizer(family)
    cut = cut_text(tokenizer, TEXT, control=True)
    assert [piece.id for piece in cut.pieces] == tokenizer.encode(TEXT, add_special_tokens=False)
    joined = b"".join(piece.content for piece in cut.pieces).decode()
    read = {"qwen3": TEXT.replace("s\u0301", "ś"), "llama2": f" {TEXT}"}.get(family, TEXT)
    assert joined == read
    assert cut.read_as == (None if read == TEXT else read)
    assert {piece.content for piece in cut.pieces} <= vocabulary_pieces(tokenizer)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_every_byte_of_a_piece_belongs_to_one_character_of_the_text(text: str):
    cut = cut_text(_bytes_alone(), text)
    assert b"".join(piece.content for piece in cut.pieces) == text.encode()
    firsts = [part.character for piece in cut.pieces for part in piece.characters if part.first == 1]
    assert firsts == list(text)
    for piece in cut.pieces:
        assert b"".join(piece_bytes_of(piece, part) for part in piece.characters) == piece.content


def _bytes_alone():
    return to_hf_tokenizer({bytes([byte]): byte for byte in range(256)}, {"<|endoftext|>": 256})


def test_a_piece_within_a_character_names_that_character_also_where_the_rest_is_not_shown():
    cut = cut_text(_bytes_alone(), "a東", shown=2)
    assert cut.tokens == 4
    assert [describe_piece(piece, None) for piece in cut.pieces] == [
        ["id 97 · 1 byte 61", "U+0061 LATIN SMALL LETTER A · UTF-8 61 · UTF-16 0061 · UTF-32 00000061"],
        [
            "id 230 · 1 byte E6",
            "U+6771 CJK UNIFIED IDEOGRAPH-6771 · UTF-8 E6 9D B1 · UTF-16 6771 · UTF-32 00006771 · here byte 1 of 3",
        ],
    ]
    assert marked_text(cut.pieces[1]) == "<i>E6</i>"


def test_a_control_token_in_the_text_is_letters_unless_it_is_asked_for(small_tokenizer):
    tokenizer = add_control_tokens(small_tokenizer, ["<|user|>"])
    assert cut_text(tokenizer, "<|user|>").tokens > 1
    (piece,) = cut_text(tokenizer, "<|user|>", control=True).pieces
    assert piece.is_added


def test_spaces_and_control_characters_are_seen_and_markup_is_text():
    shown = pieces_as_html(cut_text(_bytes_alone(), "a \t\n\x1b<b>"))
    assert "<i>·</i>" in shown and "<i>⇥</i>" in shown and "<i>⏎</i>" in shown and "<i>U+001B</i>" in shown
    assert "&lt;" in shown and "<b>" not in shown
    assert shown.count("<br>") > shown.count("detail")  # a line break also breaks the line


def test_what_only_one_side_has_is_marked_there_and_the_shorter_side_is_named(small_tokenizer):
    sides = [("bytes", _bytes_alone()), ("small", small_tokenizer)]
    shown = compared_as_html(sides, "the the")
    left, right = shown.split("<section>")[1:]
    assert "only in this" not in left and "only in this" in right
    few, many = cut_text(small_tokenizer, "the the").tokens, 7
    assert f"small needs {1 - few / many:.1%} fewer tokens: {few} instead of 7." in shown
    assert compare_counts(["a", "b"], [cut_text(small_tokenizer, "x")] * 2) == "Both come to 1 token."
