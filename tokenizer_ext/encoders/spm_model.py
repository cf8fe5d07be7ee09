"""`tokenizer.model`, SentencePiece's own file: held to `tokenizer.json`, and written again with new pieces at its end.

The file is a protobuf message (`ModelProto` in
https://github.com/google/sentencepiece/blob/v0.2.0/src/sentencepiece_model.proto): field 1 repeats a piece, whose
fields are its text (1), its score (2, a float) and its type (3). What is appended to a message adds to its repeated
fields (https://protobuf.dev/programming-guides/encoding/#last-one-wins), so the bytes of the base's file stay as they
are.
"""

import importlib.util
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from transformers import PreTrainedTokenizerFast

from configs import InputError
from configs.one_line_ending import say
from tokenizer_ext.foreign.template_trial import save_tokenizer
from tokenizer_ext.huggingface.byte_level_backend import bpe_json, is_spm
from tokenizer_ext.huggingface.hub_names import is_mistyped_path

MODEL_FILE = "tokenizer.model"
HOW_TO_GET_SENTENCEPIECE = "pip install 'graft-lm[sentencepiece]'"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class SpmPiece:
    """A piece of `tokenizer.model`; its place is its id."""

    text: str
    score: float
    kind: int


def model_file_of(tokenizer: PreTrainedTokenizerFast) -> bytes | None:
    """What the base's `tokenizer.model` holds; None where it has none.

    Raises:
        InputError: it disagrees with `tokenizer.json`, or is no such file.

    """
    path = _place_of(tokenizer.name_or_path)
    if path is None:
        return None
    content = path.read_bytes()
    texts = _texts_by_id(tokenizer)
    for id_, piece in enumerate(read_pieces(content, str(path))):
        if texts.get(id_) != piece.text:
            raise InputError(
                f"{path}: its piece {id_} is {piece.text!r}, expected {texts.get(id_)!r} as in tokenizer.json: take "
                "both files of one model, or leave this one out"
            )
    return content


def save_with_model_file(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Writes a tokenizer whose chat templates were tried, with its base's `tokenizer.model`, new pieces at its end.

    llama.cpp's converter takes that file first. One that disagrees with `tokenizer.json` stays behind, which is said.

    Raises:
        InputError: a chat template does not end.

    """
    save_tokenizer(tokenizer, folder)
    if not is_spm(tokenizer):
        return
    try:
        content = model_file_of(tokenizer)
        if content is not None:
            (Path(folder) / MODEL_FILE).write_bytes(with_new_pieces(content, tokenizer))
    except InputError as error:
        say(f"{MODEL_FILE} stays behind: {error}")


def read_pieces(content: bytes, where: str = MODEL_FILE) -> list[SpmPiece]:
    """The pieces in a file, in the order of their ids.

    Raises:
        InputError: it is no SentencePiece model.

    """
    try:
        pieces = [_piece(bytes(value)) for field, value in _fields(content) if field == 1]
    except (ValueError, IndexError, TypeError, struct.error):
        pieces = []
    if not pieces:
        raise InputError(f"{where}: is no SentencePiece model, expected the file that belongs to tokenizer.json")
    return pieces


def with_new_pieces(content: bytes, tokenizer: PreTrainedTokenizerFast) -> bytes:
    """The file with all later ids of `tokenizer` as pieces, each with a lower score than all before it.

    Raises:
        InputError: an id among them is in no use, for a piece's place is its id.

    """
    pieces, texts = read_pieces(content), _texts_by_id(tokenizer)
    kinds = {
        token["id"]: CONTROL if token["special"] else USER_DEFINED for token in bpe_json(tokenizer)["added_tokens"]
    }
    lowest = min(piece.score for piece in pieces)
    new = bytearray()
    for place, id_ in enumerate(range(len(pieces), max(texts) + 1), 1):
        if id_ not in texts:
            raise InputError(f"{MODEL_FILE}: id {id_} is in no use, expected every id up to {max(texts)}: leave it out")
        new += _written(SpmPiece(texts[id_], lowest - place, kinds.get(id_, NORMAL)))
    return content + bytes(new)


def processors(contents: Sequence[bytes]) -> list[Any] | None:
    """What the sentencepiece package makes of each file; None where it is not installed."""
    if importlib.util.find_spec("sentencepiece") is None:
        return None
    import sentencepiece

    return [sentencepiece.SentencePieceProcessor(model_proto=content) for content in contents]


def _place_of(name: str) -> Path | None:
    """Where the file of a folder lies, or of a model in the Hub's cache; the network is not asked."""
    if not name:
        return None
    if Path(name).is_dir() or is_mistyped_path(name):
        path = Path(name) / MODEL_FILE
        return path if path.is_file() else None
    cached = try_to_load_from_cache(name, MODEL_FILE)
    return Path(cached) if isinstance(cached, str) else None


def _texts_by_id(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    backend = bpe_json(tokenizer)
    texts = {id_: token for token, id_ in backend["model"]["vocab"].items()}
    return texts | {token["id"]: token["content"] for token in backend["added_tokens"]}


def _piece(content: bytes) -> SpmPiece:
    text, score, kind = "", 0.0, NORMAL
    for field, value in _fields(content):
        if field == 1:
            text = bytes(value).decode()
        elif field == 2:
            score = struct.unpack("<f", value)[0]
        elif field == 3:
            kind = int(value)
    return SpmPiece(text, score, kind)


def _written(piece: SpmPiece) -> bytes:
    text = piece.text.encode()
    content = b"\x0a" + _as_varint(len(text)) + text + b"\x15" + struct.pack("<f", piece.score)
    content += b"\x18" + _as_varint(piece.kind)
    return b"\x0a" + _as_varint(len(content)) + content


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: their numbers, and a number or the bytes of each."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(key & 7, 0)
        if key & 7 == _VARINT:
            value: Any
            value, place = _varint(content, place)
            yield key >> 3, value
            continue
        if key & 7 == _LENGTH:
            size, place = _varint(content, place)
        if (not size and key & 7 != _LENGTH) or place + size > len(content):
            raise ValueError(f"no message at byte {place}")
        yield key >> 3, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the place after it."""
    number = shift = 0
    while content[place] & 0x80:
        number |= (content[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return number | content[place] << shift, place + 1


def _as_varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
