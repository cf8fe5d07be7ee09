"""Whether the parts of a model agree: tokenizer.json and what transformers makes of it, ids and rows, ends of turns.

For a tokenizer of any family. Nothing is changed; each line that is found says what a user would run into.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from tokenizer_ext.foreign.template_trial import try_template
from tokenizer_ext.huggingface.byte_level_backend import missing_bytes, parse_backend
from tokenizer_ext.huggingface.encoder_proof import CHARACTERS
from tokenizer_ext.huggingface.gguf_base import plain_folder
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id
from tokenizer_ext.huggingface.hub_folder import fetch
from tokenizer_ext.pages.progress import shown

MOST_TOKENS, TRIALS, PARTS = 30_000, 3_000, 12
SHOWN, SHOWN_CHARACTERS = 5, 60
REPLY = "Fine, thanks."
ASKED = [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": REPLY}]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A text that two readers read as different ids."""

    text: str
    file_ids: list[int]
    """By `tokenizer.json` itself."""
    loaded_ids: list[int]
    """By what `AutoTokenizer` of the installed transformers makes of it."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What was found."""

    texts: int
    """Read both by `tokenizer.json` and by what `AutoTokenizer` makes of it; 0 where there is no such file."""
    differing: int
    """Of them, those that came to other ids."""
    examples: list[Difference] = field(default_factory=list)
    ids: int
    """The id after the last one of the tokenizer."""
    rows: int
    """Of the embedding."""
    unnamed_ids: list[int] = field(default_factory=list)
    """Ids below the last one that no token has."""
    missing_bytes: list[int] = field(default_factory=list)
    """Bytes that no token stands for: a text with one loses or changes it."""
    turn_ends_with: str = ""
    """What the chat template writes behind what an assistant says; empty where there is none."""
    turn_end_id: int | None = None
    """Its id where it is one token that text cannot come to."""
    stop_ids: list[int] = field(default_factory=list)
    """The ids that end a reply by the generation config."""
    template_fault: str = ""

    def describe(self) -> str:
        """A line for each thing that is looked at."""
        return "\n".join([self._reading(), self._rows(), self._bytes(), self._ends()])

    def _reading(self) -> str:
        if not self.texts:
            return "reading: there is no tokenizer.json to compare AutoTokenizer with"
        if not self.differing:
            return f"reading: AutoTokenizer gives the ids of tokenizer.json for all of {self.texts:,} texts"
        one = self.examples[0]
        return (
            f"reading: AutoTokenizer changes {self.differing:,} of {self.texts:,} texts, such as {one.text!r}: "
            f"{one.file_ids} by tokenizer.json, {one.loaded_ids} by AutoTokenizer"
        )

    def _rows(self) -> str:
        if self.ids > self.rows:
            return f"rows: ids {self.rows} to {self.ids - 1} have no row: a text that holds one cannot be read"
        holes = f", {len(self.unnamed_ids):,} ids between have no token" if self.unnamed_ids else ""
        spare = self.rows - self.ids
        return f"rows: every id up to {self.ids - 1} has one; {spare:,} rows behind have no id{holes}"

    def _bytes(self) -> str:
        if not self.missing_bytes:
            return "bytes: none is missing"
        listed = " ".join(f"{byte:02x}" for byte in self.missing_bytes)
        return f"bytes: {len(self.missing_bytes)} of 256 have no token, text with one loses or changes it: {listed}"

    def _ends(self) -> str:
        if self.template_fault:
            return f"end of turn: the chat template does not render two messages: {self.template_fault}"
        if not self.turn_ends_with:
            return "end of turn: there is no chat template that ends one"
        if self.turn_end_id is None:
            return f"end of turn: the template writes {self.turn_ends_with!r}, which begins with no control token"
        if self.turn_end_id in self.stop_ids:
            return f"end of turn: {self.turn_ends_with!r} (id {self.turn_end_id}) ends replies too"
        return (
            f"end of turn: the template writes {self.turn_ends_with!r} (id {self.turn_end_id}), and replies end at "
            f"{self.stop_ids or 'nothing'} by the generation config: they would go on behind a turn"
        )


@shown("comparing tokenizer, rows and template")
def find_agreement(name: str, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> Agreement:
    """Compares the parts of a model, which are read already from the place that is named.

    Raises:
        InputError: there is no such place.

    """
    rows = model.get_input_embeddings().num_embeddings
    texts, differences = _compare_readings(fetch(plain_folder(name)), tokenizer)
    named, end = set(tokenizer.get_vocab().values()), next_token_id(tokenizer)
    written, end_id, fault = _end_of_turn(tokenizer)
    stops = model.generation_config.eos_token_id
    return Agreement(
        texts=texts,
        differing=len(differences),
        examples=differences[:SHOWN],
        ids=end,
        rows=rows,
        unnamed_ids=[id_ for id_ in range(end) if id_ not in named],
        missing_bytes=list(_missing(tokenizer)),
        turn_ends_with=written,
        turn_end_id=end_id,
        stop_ids=stops if isinstance(stops, list) else [] if stops is None else [stops],
        template_fault=fault,
    )


def _compare_readings(folder: Path, tokenizer: PreTrainedTokenizerFast) -> tuple[int, list[Difference]]:
    file = folder / "tokenizer.json"
    if not file.is_file():
        return 0, []
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    texts = list(dict.fromkeys(_trial_texts(tokenizer)))
    by_file = Tokenizer.from_file(str(file)).encode_batch(texts, add_special_tokens=False)
    by_loaded = loaded.encode_batch(texts, add_special_tokens=False)
    return len(texts), [
        Difference(text=text[:SHOWN_CHARACTERS], file_ids=own.ids[:PARTS], loaded_ids=other.ids[:PARTS])
        for text, own, other in zip(texts, by_file, by_loaded, strict=True)
        if own.ids != other.ids
    ]


def _trial_texts(tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    """Tokens as text, spread over the ids, then characters of every kind in a row and among added tokens."""
    chance = random.Random(0)
    kinds: Sequence[str] = [*CHARACTERS, *tokenizer.get_added_vocab()]
    ids = sorted(tokenizer.get_vocab().values())
    for id_ in ids[:: -(-len(ids) // MOST_TOKENS)]:
        yield tokenizer.backend_tokenizer.decode([id_], skip_special_tokens=False)
    for number in range(TRIALS):
        yield "".join(chance.choices(kinds if number % 2 else CHARACTERS, k=chance.randrange(1, PARTS)))


def _missing(tokenizer: PreTrainedTokenizerFast) -> bytes:
    model = parse_backend(tokenizer)["model"]
    if model.get("byte_fallback"):
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
        return bytes(byte for byte in range(256) if f"<0x{byte:02X}>" not in vocabulary)
    try:
        return missing_bytes(tokenizer)
    except InputError:  # a family without bytes
        return b""


def _end_of_turn(tokenizer: PreTrainedTokenizerFast) -> tuple[str, int | None, str]:
    """What stands behind a reply, its id where it is a control token, and what is wrong with the template."""
    if not isinstance(tokenizer.chat_template, str):
        return "", None, ""
    try:
        try_template(tokenizer.chat_template, tokenizer.special_tokens_map, {})
        rendered = str(tokenizer.apply_chat_template(ASKED, tokenize=False))
    except InputError as error:
        return "", None, str(error)
    except Exception as error:  # whatever a template raises
        return "", None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    behind = rendered.rpartition(REPLY)[2]
    added = sorted(tokenizer.get_added_vocab().items(), key=lambda one: -len(one[0]))
    found = next(((token, id_) for token, id_ in added if behind.lstrip().startswith(token)), None)
    return (behind, None, "") if found is None else (*found, "")
