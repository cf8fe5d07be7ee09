"""Removes the tokens that a corpus never uses, and their rows, without touching anything else.

    python -m tokenizer_ext.trim --model DIR --corpus FILE --output_dir DIR

Only leaves go, tokens that no other token is made of, and what becomes a leaf without them; never bytes, never added
tokens. Ids are numbered anew, in their order; rows without a token are dropped. The folder opens in transformers and
holds `trim.json`: where each old id went, and a certificate of what stayed.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError, run_entry
from tokenizer_ext.audit import check_rows
from tokenizer_ext.certificate import WeightHashes, hash_weights
from tokenizer_ext.corpus_files import read_documents
from tokenizer_ext.embeddings import find_tables
from tokenizer_ext.extend import check_new_folder
from tokenizer_ext.hf_model import load_model, load_tokenizer
from tokenizer_ext.hf_tokenizer import plain_text_encoder
from tokenizer_ext.terminal import quiet_libraries
from tokenizer_ext.token_kinds import reachable_ids
from tokenizer_ext.trimmed_rows import hash_rows, named_ids, select_rows
from tokenizer_ext.trimmed_tokenizer import choose_removed, ids_of_texts, trimmed

TRIM_RECORD = "trim.json"
"""Name of the file in the folder of a trimmed model."""


@dataclass(frozen=True, kw_only=True)
class TrimSettings:
    """What is trimmed by which text."""

    model: str
    """Model to trim: a Hugging Face folder or Hub name with a byte-level BPE tokenizer (GPT-2, Llama 3, Qwen)."""
    corpus: str
    """Text file (UTF-8) whose tokens stay; documents are separated by blank lines."""
    output_dir: str
    """New folder for the trimmed model, its tokenizer and `trim.json`."""
    minimum_uses: int = 1
    """A token that the corpus uses less often goes; above 1, documents become longer."""
    keep_tokens: tuple[str, ...] = ()
    """Tokens that stay, used or not."""

    def __post_init__(self) -> None:
        _check_uses(self.minimum_uses)


@dataclass(frozen=True, kw_only=True)
class TrimCertificate:
    """The claims of a trim, each with its number."""

    tokens_before: int
    """Tokens of the tokenizer."""
    tokens_after: int
    """Tokens that stayed."""
    rows_before: int
    """Rows of the tables, those without a token included."""
    rows_after: int
    """Rows that stayed: one for each token, and for each id that the model's settings name."""
    unreachable_tokens: int
    """Tokens that stayed and that a text encoded to before, but none does now."""
    moved_control_tokens: int
    """Added tokens that are not where their row went."""
    documents: int
    """Documents of the corpus."""
    unequal_documents: int
    """Documents without a removed token whose ids are not the old ones, each mapped; read as plain text and not."""
    documents_with_removed_tokens: int
    """Documents that used a removed token; none unless more than one use was asked for."""
    longer_documents: int
    """Documents with more tokens than before; they are among those with removed tokens."""
    weights_before: WeightHashes
    """Of the model before, its rows being those that stayed."""
    weights_after: WeightHashes
    """Of the trimmed model with all of its rows."""

    @property
    def holds(self) -> bool:
        """Whether nothing that stayed changed, and no document without a removed token did."""
        moved = (self.unreachable_tokens, self.moved_control_tokens, self.unequal_documents)
        longer_for_nothing = self.longer_documents > self.documents_with_removed_tokens
        return self.weights_before == self.weights_after and not any(moved) and not longer_for_nothing


@dataclass(frozen=True)
class Trimmed:
    """A model with fewer tokens, and what is proved of it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    certificate: TrimCertificate
    new_ids: Mapping[int, int]
    """Where each old id went; those that are not in it are gone."""

    def save(self, folder: str | Path) -> Path:
        """Writes a plain Hugging Face folder, and `trim.json` beside the weights.

        Raises:
            InputError: the folder holds something.

        """
        folder = Path(folder)
        check_new_folder(folder)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        record = {"certificate": asdict(self.certificate), "new_ids": dict(self.new_ids)}
        (folder / TRIM_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return folder


def main(settings: TrimSettings) -> None:
    """Reads the corpus, trims, saves, shows the certificate."""
    quiet_libraries()
    check_new_folder(settings.output_dir)
    corpus = read_documents(settings.corpus)
    tokenizer = load_tokenizer(settings.model)
    ids_of_texts(tokenizer, settings.keep_tokens)  # what can be refused comes before any weight is loaded
    plain_text_encoder(tokenizer)
    trimmed = trim_vocabulary(
        load_model(settings.model, dtype="auto"),
        tokenizer,
        corpus,
        minimum_uses=settings.minimum_uses,
        keep_tokens=settings.keep_tokens,
    )
    folder = trimmed.save(settings.output_dir)
    print(describe_trim(trimmed.certificate))
    print(f"Saved: {folder}")


def trim_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Iterable[str],
    *,
    minimum_uses: int = 1,
    keep_tokens: Sequence[str] = (),
) -> Trimmed:
    """The model, changed in place, and a new tokenizer, without the leaf tokens that the corpus never uses.

    Args:
        model: A causal model of transformers.
        tokenizer: Its tokenizer.
        corpus: Documents.
        minimum_uses: A token that the corpus uses less often goes.
        keep_tokens: Texts of tokens that stay, used or not.

    Raises:
        InputError: the tokenizer is no byte-level BPE, an id has no row, there is no document, or a text in
            `keep_tokens` is no token; the model is unchanged then.

    """
    _check_uses(minimum_uses)
    documents = _documents(corpus)
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"{type(model).__name__}: is no Hugging Face model: save it as one first")
    rows = find_tables(model).embedding.num_embeddings
    check_rows(tokenizer, rows)
    named = named_ids(model)
    keep = ids_of_texts(tokenizer, keep_tokens) | named
    removed = choose_removed(tokenizer, count_uses(tokenizer, documents), minimum_uses=minimum_uses, keep=keep)
    old_ids = set(tokenizer.get_vocab().values())
    kept = sorted((old_ids | named) - removed)
    new_ids = {id_: place for place, id_ in enumerate(kept)}
    new_tokenizer = trimmed(tokenizer, {id_: place for id_, place in new_ids.items() if id_ in old_ids})
    weights_before = hash_rows(model, kept)
    select_rows(model, kept)
    unequal, longer, with_removed = _compare(tokenizer, new_tokenizer, documents, new_ids)
    certificate = TrimCertificate(
        tokens_before=len(old_ids),
        tokens_after=len(old_ids - removed),
        rows_before=rows,
        rows_after=len(kept),
        unreachable_tokens=len(
            {new_ids[id_] for id_ in reachable_ids(tokenizer) - removed} - reachable_ids(new_tokenizer)
        ),
        moved_control_tokens=_count_moved(tokenizer, new_tokenizer, new_ids),
        documents=len(documents),
        unequal_documents=unequal,
        documents_with_removed_tokens=with_removed,
        longer_documents=longer,
        weights_before=weights_before,
        weights_after=hash_weights(model, len(kept)),
    )
    return Trimmed(model, new_tokenizer, certificate, new_ids)


def describe_trim(certificate: TrimCertificate) -> str:
    """The certificate for the terminal."""
    weights = certificate.weights_after
    same = "unchanged" if certificate.weights_before == weights else "CHANGED"
    return (
        f"tokens: {certificate.tokens_before:,} -> {certificate.tokens_after:,}; "
        f"rows: {certificate.rows_before:,} -> {certificate.rows_after:,}\n"
        f"documents: {certificate.documents:,}, with removed tokens: {certificate.documents_with_removed_tokens:,}, "
        f"longer: {certificate.longer_documents:,}, others with other ids: {certificate.unequal_documents:,}\n"
        f"kept tokens that no text reaches any more: {certificate.unreachable_tokens}; "
        f"added tokens that moved from their row: {certificate.moved_control_tokens}\n"
        f"kept weights {same}: rows sha256 {weights.base_rows[:16]}…, others {weights.other_weights[:16]}…\n"
        f"certificate {'holds' if certificate.holds else 'DOES NOT HOLD'}"
    )


def count_uses(tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]) -> Counter[int]:
    """How often each id occurs in the documents: read as plain text, or with added tokens cut out, if that is more."""
    uses = Counter[int]()
    for encode in _readings(tokenizer):
        uses |= Counter(id_ for ids in _encoded(encode, documents) for id_ in ids)
    return uses


Reading = Callable[[list[str]], list[list[int]]]


def _readings(tokenizer: PreTrainedTokenizerFast) -> list[Reading]:
    """The two ways to read text: as plain text, and as the tokenizer does by itself, with what it adds."""

    def reading(encoder: Tokenizer) -> Reading:
        return lambda texts: [encoding.ids for encoding in encoder.encode_batch_fast(texts)]

    return [reading(plain_text_encoder(tokenizer)), lambda texts: tokenizer(texts)["input_ids"]]


def _encoded(encode: Reading, documents: Sequence[str]) -> Iterator[list[int]]:
    waiting = iter(documents)
    while some := list(islice(waiting, 1000)):
        yield from encode(some)


def _compare(
    before: PreTrainedTokenizerFast,
    after: PreTrainedTokenizerFast,
    documents: Sequence[str],
    new_ids: Mapping[int, int],
) -> tuple[int, int, int]:
    """Documents with other ids though all of theirs stayed, those that are longer, those with removed ids."""
    unequal, longer, with_removed = set[int](), set[int](), set[int]()
    for old, new in zip(_readings(before), _readings(after), strict=True):
        pairs = zip(_encoded(old, documents), _encoded(new, documents), strict=True)
        for number, (then, now) in enumerate(pairs):
            if any(id_ not in new_ids for id_ in then):
                with_removed.add(number)
            elif [new_ids[id_] for id_ in then] != now:
                unequal.add(number)
            if len(now) > len(then):
                longer.add(number)
    return len(unequal), len(longer), len(with_removed)


def _count_moved(before: PreTrainedTokenizerFast, after: PreTrainedTokenizerFast, new_ids: Mapping[int, int]) -> int:
    """Added tokens that are not under the new id of their row, or no added tokens any more."""
    old, new = before.added_tokens_decoder, after.added_tokens_decoder
    return sum(str(new.get(new_ids[id_])) != str(added) for id_, added in old.items())


def _documents(corpus: Iterable[str]) -> list[str]:
    if isinstance(corpus, str):
        raise InputError(f"corpus: found one string ({corpus[:40]!r}), expected a list of documents: pass [text]")
    documents = [text for text in corpus if text.strip()]
    if not documents:
        raise InputError("corpus: found no document, expected the text whose tokens stay")
    return documents


def _check_uses(minimum_uses: int) -> None:
    if minimum_uses < 1:
        raise InputError(f"minimum_uses: found {minimum_uses}, expected 1 or more")


if __name__ == "__main__":
    run_entry(main, TrimSettings)
