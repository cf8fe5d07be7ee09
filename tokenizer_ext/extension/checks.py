"""What is counted, on text and tokens, to prove that an extension moved nothing."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from configs import InputError
from configs.disk_space import temporary_folder
from tokenizer_ext.bpe.bpe import BytePairEncoding
from tokenizer_ext.bpe.tiktoken_files import to_tiktoken
from tokenizer_ext.embeddings.tables import Tables, find_tables
from tokenizer_ext.extension.certificate import (
    Certificate,
    EncoderAgreement,
    Reached,
    Rows,
    TokenizerHashes,
    WeightHashes,
    hash_tokenizer,
    hash_weights,
)
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.extension.reachability import Witness, find_witnesses
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.huggingface.tiktoken_export import normalized, twin_of
from tokenizer_ext.pages.progress import shown

DOCUMENTS_PER_BATCH = 1000
ENCODERS_CHARACTERS = 100_000
"""How much text the encoders are compared on: the readable twin is not fast."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextCounts:
    """Two tokenizers on the same documents."""

    documents: int
    tokens_before: int
    tokens_after: int
    longer: int
    """Documents with more tokens afterwards."""
    changed: int
    """Documents with other ids afterwards."""


@shown("checking what moved")
def certify(plan: Plan, model: nn.Module, weights_before: WeightHashes, rows_before: int) -> Certificate:
    """The certificate of an extended model.

    Args:
        plan: What was added to the tokenizer, and the texts to measure on.
        model: The model with its new rows.
        weights_before: Of the base.
        rows_before: Rows of the base's tables, padding included.

    """
    log.info("Checking what moved …")
    first = plan.first_new_id
    if not plan.merges:
        return _certify_control_tokens(plan, model, weights_before, rows_before)
    witnesses = find_witnesses(plan.tokenizer, plan.merges, plan.pieces)
    checked = [*plan.texts.measured, *(witness.text for witness in witnesses)]
    reloaded = reload(plan.tokenizer)
    return Certificate(
        base_tokens=first,
        new_tokens=len(plan.merges),
        word_tokens=plan.word_tokens,
        control_tokens=len(plan.control_tokens),
        refused_tokens=plan.refused_tokens,
        **_count_reached(witnesses),
        **_count_documents(plan),
        moved_ids=count_moved_ids(plan.base.get_vocab(), reloaded.get_vocab()),
        moved_special_ids=count_moved_ids(special_ids(plan), special_ids_of(reloaded)),
        unequal_after_reload=count_unequal(plan.tokenizer, reloaded, checked),
        reloaded_documents=len(checked),
        encoders=compare_encoders(plan.base, plan.tokenizer, evenly_spaced_documents(checked, ENCODERS_CHARACTERS)),
        rows=_count_rows(plan, find_tables(model), rows_before),
        tokenizer=TokenizerHashes(before=hash_tokenizer(plan.base, first), after=hash_tokenizer(reloaded, first)),
        weights_before=weights_before,
        weights_after=hash_weights(model, first),
    )


def certify_unchanged(plan: Plan, model: nn.Module, weights: WeightHashes) -> Certificate:
    """The certificate of a base to which nothing was added: its hashes, once, and its rows."""
    tables = find_tables(model)
    rows = _count_rows(plan, tables, tables.embedding.num_embeddings)
    return Certificate(base_tokens=plan.first_new_id, rows=rows, weights_before=weights, weights_after=weights)


def _certify_control_tokens(
    plan: Plan, model: nn.Module, weights_before: WeightHashes, rows_before: int
) -> Certificate:
    """The certificate where no token was made of text, so that no text has other ids than before."""
    reloaded = reload(plan.tokenizer)
    return Certificate(
        base_tokens=plan.first_new_id,
        control_tokens=len(plan.control_tokens),
        moved_ids=count_moved_ids(plan.base.get_vocab(), reloaded.get_vocab()),
        moved_special_ids=count_moved_ids(special_ids(plan), special_ids_of(reloaded)),
        unequal_after_reload=count_unequal(plan.tokenizer, reloaded, ()),
        reloaded_documents=1,
        encoders=EncoderAgreement(reason="no token was made of text"),
        rows=_count_rows(plan, find_tables(model), rows_before),
        weights_before=weights_before,
        weights_after=hash_weights(model, plan.first_new_id),
    )


def _count_reached(witnesses: Sequence[Witness]) -> dict[str, Any]:
    """The claims about the texts that reach new tokens."""
    reached = Counter(witness.how for witness in witnesses)
    by_text = Reached(
        by_own_text=reached["own text"],
        by_completed_character=reached["completed character"],
        by_corpus_piece=reached["corpus piece"],
    )
    return {"unreachable_tokens": reached["none"], "reached": by_text}


def _count_documents(plan: Plan) -> dict[str, Any]:
    """The claims about the lengths and ids of the documents, in the tokenizer before and in the one after."""
    before, after = plain_text_encoder(plan.base), plain_text_encoder(plan.tokenizer)
    measured = compare(before, after, plan.texts.measured)
    protected = compare(before, after, plan.texts.protected)
    text_bytes = sum(len(text.encode()) for text in plan.texts.measured)
    return {
        "bytes_per_token_before": text_bytes / max(measured.tokens_before, 1),
        "bytes_per_token_after": text_bytes / max(measured.tokens_after, 1),
        "longer_documents": measured.longer,
        "measured_documents": measured.documents,
        "held_out_documents": len(plan.texts.held_out),
        "duplicate_documents": plan.texts.duplicates,
        "changed_protected_documents": protected.changed,
        "protected_documents": protected.documents,
    }


def _count_rows(plan: Plan, tables: Tables, rows_before: int) -> Rows:
    return Rows(
        before=rows_before,
        after=tables.embedding.num_embeddings,
        padding_used=min(max(rows_before - plan.first_new_id, 0), plan.new_ids),
        tied=tables.tied,
    )


def compare(before: Tokenizer, after: Tokenizer, documents: Sequence[str]) -> TextCounts:
    """The tokens of the documents in two encoders."""
    counts: Counter[str] = Counter()
    for then, now in zip(_encode(before, documents), _encode(after, documents), strict=True):
        counts.update(
            tokens_before=len(then), tokens_after=len(now), longer=int(len(now) > len(then)), changed=int(now != then)
        )
    names = ("tokens_before", "tokens_after", "longer", "changed")
    return TextCounts(documents=len(documents), **{name: counts[name] for name in names})


def count_moved_ids(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many tokens have another id, or none.

    >>> count_moved_ids({"a": 0, "b": 1}, {"a": 0, "c": 1, "b": 2})
    1
    """
    return sum(after.get(token) != id_ for token, id_ in before.items())


def special_ids_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """The ids of special tokens."""
    return {str(added): id_ for id_, added in tokenizer.added_tokens_decoder.items() if added.special}


def special_ids(plan: Plan) -> dict[str, int]:
    """The ids that special tokens must have: old ones as in the base, new ones as they were given."""
    ids = plan.tokenizer.get_vocab()
    return {token: ids[token] for token in plan.control_tokens} | special_ids_of(plan.base)


def reload(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """What `AutoTokenizer` opens after the tokenizer was saved."""
    with temporary_folder() as folder:
        tokenizer.save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)


def count_unequal(saved: PreTrainedTokenizerFast, reloaded: PreTrainedTokenizerFast, documents: Sequence[str]) -> int:
    """Documents with other ids in the reloaded tokenizer, control tokens in them read as such."""
    every_special = "".join(special_ids_of(saved))
    texts = [*documents, every_special]
    pairs = zip(_encode(saved.backend_tokenizer, texts), _encode(reloaded.backend_tokenizer, texts), strict=True)
    return sum(left != right for left, right in pairs)


@shown("asking other encoders")
def compare_encoders(
    base: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str]
) -> EncoderAgreement:
    """Whether tiktoken's encoder and the readable twin give the tokenizer's ids, control tokens in the text included.

    They get the text as its normaliser leaves it, for they have none. An extension that has no such form although its
    base has one disagrees in every document.
    """
    texts = [*documents, "".join(special_ids_of(tokenizer))]
    twin, reason = _twin_or_reason(tokenizer)
    if twin is None:
        lost = _twin_or_reason(base)[0] is not None
        documents_read = len(texts) if lost else 0
        return EncoderAgreement(documents=documents_read, unequal_documents=documents_read or None, reason=reason)
    others = (to_tiktoken(twin, "extended"), twin)  # as `export_tiktoken` makes it, without checking the ranks again
    unequal = 0
    for text, ids in zip(texts, _encode(tokenizer.backend_tokenizer, texts), strict=True):
        plain = normalized(text, tokenizer)
        unequal += any(list(other.encode(plain, allowed_special="all")) != ids for other in others)
    return EncoderAgreement(documents=len(texts), unequal_documents=unequal)


def _twin_or_reason(tokenizer: PreTrainedTokenizerFast) -> tuple[BytePairEncoding | None, str]:
    try:
        return twin_of(tokenizer), ""
    except InputError as error:
        return None, str(error)


def evenly_spaced_documents(documents: Sequence[str], characters: int) -> list[str]:
    """Documents of about so many characters in all, evenly from the first to the last.

    >>> evenly_spaced_documents(["aaa", "bbb", "ccc", "ddd"], 6)
    ['aaa', 'ccc']
    """
    total = sum(map(len, documents))
    return [text[:characters] for text in documents[:: max(-(-total // characters), 1)]]


def _encode(encoder: Tokenizer, documents: Sequence[str]) -> Iterator[list[int]]:
    # In batches, because an encoding takes many times the memory of its ids.
    for start in range(0, len(documents), DOCUMENTS_PER_BATCH):
        batch = list(documents[start : start + DOCUMENTS_PER_BATCH])
        for encoding in encoder.encode_batch_fast(batch, add_special_tokens=False):
            yield encoding.ids
