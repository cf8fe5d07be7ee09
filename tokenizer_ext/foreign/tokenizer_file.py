"""What tokenizer.json says, looked through before the library builds it: ids, and stages that could run away.

The library holds neither that two tokens have two ids nor that a stage ends. Stages of the known families are passed
by what they are; any other pipeline is tried in a process of its own (`pipeline_trial.py`).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs import InputError
from tokenizer_ext.foreign.json_in_folder import GET_ANEW, read_object

FILE = "tokenizer.json"
MOST_BYTES = 256 << 20
MOST_IN_PLACE = 64
"""Letters that a stage may write for one letter; the longest decomposition in Unicode has 18."""
MOST_PADDING = 1 << 20
STAGES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
HARMLESS = {
    *("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "BertNormalizer", "Nmt", "Sequence"),
    *("ByteLevel", "BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "Metaspace"),
    *("CharDelimiterSplit", "UnicodeScripts", "FixedLength", "TemplateProcessing", "BertProcessing"),
    *("RobertaProcessing", "ByteFallback", "Fuse", "WordPiece", "BPEDecoder", "CTC", "Replace", "Prepend", "Split"),
}
"""Kinds of stages that take time in proportion to the text, where they hold no pattern of their own."""
KNOWN_PATTERNS = {
    "bf51d578af57187876ec1c8a34fb0ee2fb3025c50ce663ac154b633ae39de092",  # GPT-2
    "f021c3d976978e62ee64cdad150cc3405c2e3d6e3b40407850bb9e8d9eb65899",  # GPT-4
    "d98f9631be1e9607a9848c26c1f9eac1aa9fc21ac6ba82a2fc0741af9780a48f",  # Llama 3
    "1ff7f41064896984db5d1bb6ff64fa4bc29007d08c1b439e505b7392777a319e",  # Qwen 2 and 3
    "00431aed57e696b747435f734d1e3b9b1bfd931a121fb5cac7129e97c181e9ba",  # Qwen 3.5
    "0245a31a25d0f007f4ee8e2a1bf8b02905323f86485c4221c372793f27b86fe5",  # CLIP
    "dfa66c1644748ec479d682d866becfcd8cbcacae0af58d60f824b6ca88f54547",  # runs of spaces (T5, XLNet)
    "4add64ab568a8b698353c562ac83993ed693822fe898d8450add1ea623df1ded",  # runs of blanks
}
"""The sha256 of patterns that take time in proportion to the text."""
PARTS = ("normalizers", "pretokenizers", "processors", "decoders")


def check_tokenizer_file(folder: Path) -> dict[str, Any]:
    """What tokenizer.json holds; nothing where there is none.

    Raises:
        InputError: two tokens have one id, an id is out of reach, or a stage writes or pads without measure.

    """
    path = folder / FILE
    content = read_object(path, MOST_BYTES)
    if content:
        if not isinstance(content.get("model"), Mapping):
            raise InputError(f"{path}: no tokenizer (it holds no model), expected what tokenizers writes: {GET_ANEW}")
        _check_ids(content, path)
        _check_growth(content, path)
        _check_padding(content, path)
    return content


def check_vocabulary(vocabulary: Mapping[str, int], name: str) -> None:
    """Refuses a tokenizer, as it was built, in which two tokens have one id.

    Raises:
        InputError: two have; the message names them.

    """
    if len(set(vocabulary.values())) != len(vocabulary):
        owners: dict[int, str] = {}
        for token, id_ in vocabulary.items():
            _take(owners, token, id_, Path(name))


def needs_trial(content: Mapping[str, Any]) -> bool:
    """Whether a stage of this tokenizer is none that is known to end in time."""
    for stage in every_stage(content):
        pattern = stage.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
        if stage.get("type") not in HARMLESS or (regex is not None and not _is_known(regex)):
            return True
    return False


def every_stage(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The stages of a tokenizer, and the stages in them."""
    waiting = [content.get(name) for name in STAGES]
    while waiting:
        stage = waiting.pop(0)
        if isinstance(stage, Mapping):
            yield stage
            waiting += [part for name in PARTS for part in stage.get(name) or ()]


def _is_known(pattern: Any) -> bool:
    return hashlib.sha256(str(pattern).encode("utf-8", "replace")).hexdigest() in KNOWN_PATTERNS


def _check_ids(content: Mapping[str, Any], path: Path) -> None:
    owners: dict[int, str] = {}
    vocabulary = content["model"].get("vocab")
    if isinstance(vocabulary, Mapping):
        for token, id_ in vocabulary.items():
            _take(owners, token, id_, path)
    elif isinstance(vocabulary, list):  # by place
        owners.update((place, str(piece[0])) for place, piece in enumerate(vocabulary) if isinstance(piece, list))
    for added in content.get("added_tokens") or ():
        if not isinstance(added, Mapping):
            raise InputError(f"{path}: added_tokens holds {str(added)[:60]!r}, expected objects: {GET_ANEW}")
        _take(owners, str(added.get("content")), added.get("id"), path)
    most = 4 * len(owners) + 100_000
    if owners and (highest := max(owners)) > most:
        raise InputError(
            f"{path}: {owners[highest]!r} has id {highest:,}, with {len(owners):,} tokens in all, expected ids "
            f"without such holes: {GET_ANEW}"
        )


def _take(owners: dict[int, str], token: str, id_: Any, path: Path) -> None:
    if type(id_) is not int or id_ < 0:
        raise InputError(f"{path}: {token!r} has id {id_!r}, expected a number from 0 on: {GET_ANEW}")
    if owners.setdefault(id_, token) != token:
        raise InputError(f"{path}: {owners[id_]!r} and {token!r} both have id {id_}, expected an id each: {GET_ANEW}")


def _check_growth(content: Mapping[str, Any], path: Path) -> None:
    """Refuses stages that together write far more than they read."""
    for name in STAGES:
        growth = math.prod(_growth(stage) for stage in every_stage({name: content.get(name)}))
        if growth > MOST_IN_PLACE:
            raise InputError(
                f"{path}: its {name} writes up to {growth:,.0f} letters for one, expected at most {MOST_IN_PLACE}: "
                f"{GET_ANEW}"
            )


def _growth(stage: Mapping[str, Any]) -> float:
    written = {"Replace": "content", "Prepend": "prepend", "Metaspace": "replacement"}.get(str(stage.get("type")))
    if stage.get("type") == "TemplateProcessing":
        return max(1.0, *(len(stage.get(name) or ()) / 8 for name in ("single", "pair")))
    if written is None:
        return 1.0
    pattern = stage.get("pattern")
    read = len(str(pattern.get("String", ""))) if isinstance(pattern, Mapping) else 0
    return max(1.0, len(str(stage.get(written) or "")) / max(read, 1))


def _check_padding(content: Mapping[str, Any], path: Path) -> None:
    padding = content.get("padding")
    strategy = padding.get("strategy") if isinstance(padding, Mapping) else None
    length = strategy.get("Fixed") if isinstance(strategy, Mapping) else 0
    multiple = padding.get("pad_to_multiple_of") if isinstance(padding, Mapping) else 0
    for field, number in (("Fixed", length), ("pad_to_multiple_of", multiple)):
        if isinstance(number, int) and number > MOST_PADDING:
            raise InputError(
                f"{path}: pads to {number:,} tokens ({field}), expected at most {MOST_PADDING:,}: {GET_ANEW}"
            )
