"""What a trim changed and what it did not, as numbers that anyone can compute again from the two folders.

The hashes are those of `certificate.py`, with the rows of the ids that stayed in place of the rows of the base's ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.extension.certificate import WeightHashes
from tokenizer_ext.huggingface.text_readings import encoded, readings
from tokenizer_ext.inspection.token_kinds import reachable_ids
from tokenizer_ext.pages.progress import tracked


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
    reopened: bool = False
    """Whether its folder was opened again from the disk and found equal to what was in memory."""

    @property
    def holds(self) -> bool:
        """Whether nothing that stayed changed, and no document without a removed token did."""
        moved = (self.unreachable_tokens, self.moved_control_tokens, self.unequal_documents)
        longer_for_nothing = self.longer_documents > self.documents_with_removed_tokens
        return self.weights_before == self.weights_after and not any(moved) and not longer_for_nothing


def certify_trim(
    before: PreTrainedTokenizerFast,
    after: PreTrainedTokenizerFast,
    new_ids: Mapping[int, int],
    documents: Sequence[str],
    rows_before: int,
    weights: tuple[WeightHashes, WeightHashes],
) -> TrimCertificate:
    """The certificate of a trim.

    Args:
        before: The tokenizer before.
        after: The tokenizer after.
        new_ids: Where each old id went, if it stayed.
        documents: Texts that both are measured on.
        rows_before: Rows of the tables before.
        weights: Of what stayed, before and after.

    """
    token_ids = set(before.get_vocab().values())
    unequal, longer, with_removed = compare_documents(before, after, documents, new_ids)
    reached_before = {new_ids[id_] for id_ in reachable_ids(before) if id_ in new_ids}
    return TrimCertificate(
        tokens_before=len(token_ids),
        tokens_after=len(token_ids & new_ids.keys()),
        rows_before=rows_before,
        rows_after=len(new_ids),
        unreachable_tokens=len(reached_before - reachable_ids(after)),
        moved_control_tokens=count_moved(before, after, new_ids),
        documents=len(documents),
        unequal_documents=unequal,
        documents_with_removed_tokens=with_removed,
        longer_documents=longer,
        weights_before=weights[0],
        weights_after=weights[1],
    )


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


def compare_documents(
    before: PreTrainedTokenizerFast,
    after: PreTrainedTokenizerFast,
    documents: Sequence[str],
    new_ids: Mapping[int, int],
) -> tuple[int, int, int]:
    """Documents with other ids though all of theirs stayed, those that are longer, those with removed ids."""
    unequal, longer, with_removed = set[int](), set[int](), set[int]()
    for old, new in zip(readings(before), readings(after), strict=True):
        pairs = zip(encoded(old, documents), encoded(new, documents), strict=True)
        for number, (then, now) in enumerate(tracked(pairs, "comparing documents", "documents", len(documents))):
            if any(id_ not in new_ids for id_ in then):
                with_removed.add(number)
            elif [new_ids[id_] for id_ in then] != now:
                unequal.add(number)
            if len(now) > len(then):
                longer.add(number)
    return len(unequal), len(longer), len(with_removed)


def count_moved(before: PreTrainedTokenizerFast, after: PreTrainedTokenizerFast, new_ids: Mapping[int, int]) -> int:
    """Added tokens that are not under the new id of their row, or no added tokens any more."""
    old, new = before.added_tokens_decoder, after.added_tokens_decoder
    return sum(str(new.get(new_ids[id_])) != str(added) for id_, added in old.items())
