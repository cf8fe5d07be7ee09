"""A vocabulary of characters gives every text back, and is saved as plain JSON."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import InputError
from scratch_models.corpus.vocabulary import ByteVocabulary, CharacterVocabulary


@given(st.text(min_size=1))
def test_encoding_then_decoding_gives_the_text_back(text: str) -> None:
    vocabulary = CharacterVocabulary.from_text(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.encode_array(text).tolist() == vocabulary.encode(text)
    assert list(vocabulary.characters) == sorted(set(text))


@given(st.text())
def test_ids_of_bytes_are_the_utf8_of_the_text(text: str) -> None:
    ids = ByteVocabulary().encode(text)
    assert bytes(ids) == text.encode()
    assert ByteVocabulary().decode(ids) == text
    assert ByteVocabulary().encode_array(text).tolist() == ids
    assert max(ids, default=0) < len(ByteVocabulary())


def test_a_saved_vocabulary_loads_with_the_same_ids(tmp_path: Path) -> None:
    text = 'line\nbreak\r "quote" \\ é 漢 😀'
    vocabulary = CharacterVocabulary.from_text(text)
    vocabulary.save(tmp_path / "characters.json")
    assert CharacterVocabulary.load(tmp_path / "characters.json").encode(text) == vocabulary.encode(text)


def test_all_characters_outside_the_vocabulary_are_named() -> None:
    message = r"holds 'x', 'é', first at character 2, expected only the 2 characters"
    vocabulary = CharacterVocabulary.from_text("ab")
    for encode in (vocabulary.encode, vocabulary.encode_array):
        with pytest.raises(InputError, match=message):
            encode("abxbéx")


@pytest.mark.parametrize("content", ["{", "3", '["a", "a"]', '["ab"]', "[]", "[1, 2]"])
def test_a_file_that_is_no_vocabulary_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "characters.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"characters\.json: .*expected a JSON list of distinct characters"):
        CharacterVocabulary.load(path)


def test_the_saved_vocabulary_is_a_plain_json_list(tmp_path: Path) -> None:
    CharacterVocabulary.from_text("ba").save(tmp_path / "characters.json")
    assert json.loads((tmp_path / "characters.json").read_text()) == ["a", "b"]
