"""What is counted, on text and tokens, to prove that an extension moved nothing."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from configs.disk_space import temporary_folder
from tokenizer_ext.bpe.merge_learning import NewToken, base_ids
from tokenizer_ext.embeddings.tables import Tables, find_tables
from tokenizer_ext.encoders.agreement import (
    EncoderAgreement,
    compare_encoders,
    encode_in_batches,
    evenly_spaced_documents,
    special_ids_of,
    taken_apart,
)
from tokenizer_ext.encoders.unread_bytes import texts_without_a_byte
from tokenizer_ext.extension.certificate import (
    Certificate,
    Reached,
    Rows,
    TokenizerHashes,
    WeightHashes,
    hash_tokenizer,
    hash_weights,
)
from tokenizer_ext.extension.plan import Plan
from tokenizer_ext.extension.reachability import Witness, find_witnesses
from tokenizer_ext.huggingface.byte_level_backend import is_spm
from tokenizer_ext.huggingface.plain_text import plain_text_encoder
from tokenizer_ext.pages.progress import shown

ENCODERS_CHARACTERS = 100_000
"""How much text the encoders are compared on: the readable twin is not fast."""
TEXTS_WITHOUT_A_BYTE = 20
"""Beside every so many-th new token a byte is tried that the vocabulary lacks, where it lacks one."""

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
    unlike: int
    """Documents whose ids afterwards, the new tokens taken apart again, are not those before."""


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
    if not plan.tokens:
        return _certify_control_tokens(plan, model, weights_before, rows_before)
    witnesses = find_witnesses(plan.tokenizer, plan.tokens, plan.pieces)
    witness_texts = [witness.text for witness in witnesses]
    if not is_spm(plan.base):
        witness_texts += texts_without_a_byte(plan.base, witness_texts[::TEXTS_WITHOUT_A_BYTE])
    checked = [*plan.texts.measured, *witness_texts]
    reloaded = reload(plan.tokenizer)
    return Certificate(
        base_tokens=first,
        new_tokens=len(plan.tokens),
        character_tokens=len(plan.characters),
        word_tokens=plan.word_tokens,
        control_tokens=len(plan.control_tokens),
        refused_tokens=plan.refused_tokens,
        **_count_reached(witnesses),
        **_count_documents(plan, witness_texts),
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


def _count_documents(plan: Plan, witness_texts: Sequence[str]) -> dict[str, Any]:
    """The claims about the lengths and ids of the documents, in the tokenizer before and in the one after."""
    before, after = plain_text_encoder(plan.base), plain_text_encoder(plan.tokenizer)
    read = (plan.texts.measured, plan.texts.protected, witness_texts)
    measured, protected, witnesses = (compare(before, after, texts, plan.tokens) for texts in read)
    text_bytes = sum(len(text.encode()) for text in plan.texts.measured)
    return {
        "bytes_per_token_before": text_bytes / max(measured.tokens_before, 1),
        "bytes_per_token_after": text_bytes / max(measured.tokens_after, 1),
        "longer_documents": measured.longer,
        "measured_documents": measured.documents,
        "unlike_base_documents": measured.unlike + protected.unlike + witnesses.unlike,
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


def compare(
    before: Tokenizer, after: Tokenizer, documents: Sequence[str], new_tokens: Sequence[NewToken] = ()
) -> TextCounts:
    """The tokens of the documents in two encoders, of which the second has the new tokens too."""
    counts: Counter[str] = Counter()
    parts = dict(zip([new.token for new in new_tokens], base_ids(new_tokens), strict=True))
    both = (encode_in_batches(encoder, documents) for encoder in (before, after))
    for then, now in zip(*both, strict=True):
        counts.update(
            tokens_before=len(then),
            tokens_after=len(now),
            longer=int(len(now) > len(then)),
            changed=int(now != then),
            unlike=int(taken_apart(now, parts) != then),
        )
    names = ("tokens_before", "tokens_after", "longer", "changed", "unlike")
    return TextCounts(documents=len(documents), **{name: counts[name] for name in names})


def count_moved_ids(before: Mapping[str, int], after: Mapping[str, int]) -> int:
    """How many tokens have another id, or none.

    >>> count_moved_ids({"a": 0, "b": 1}, {"a": 0, "c": 1, "b": 2})
    1
    """
    return sum(after.get(token) != id_ for token, id_ in before.items())


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
    both = (encode_in_batches(one.backend_tokenizer, texts) for one in (saved, reloaded))
    return sum(left != right for left, right in zip(*both, strict=True))
