"""What an audit found, and how it is shown: a table for the terminal, one page for the browser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizer_ext.inspection.token_kinds import KINDS
from tokenizer_ext.inspection.undertrained import UnderTrained
from tokenizer_ext.pages.html_page import heading, image, page, paragraph, table
from tokenizer_ext.pages.plots import as_data_uri, can_plot, new_figure
from tokenizer_ext.pages.terminal import printable

_SHOWN = 12
_SHOWN_ON_THE_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class CorpusUse:
    """How often a corpus uses each token."""

    documents: int
    """Documents read."""
    uses: Sequence[int]
    """Occurrences of each id, by id."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found of each id and row."""

    tokens: Sequence[str | None]
    """The text of each id, with escapes for bytes that are no text; None for a row without a token."""
    rows: int
    """Rows of the tables."""
    tied: bool
    """Whether head and embedding are one table."""
    ids_of_kind: Mapping[str, Sequence[int]]
    """The ids of each kind of `token_kinds.KINDS`."""
    reasons: Mapping[int, str]
    """Why no text was found for an id."""
    padding: Sequence[int]
    """Rows without a token."""
    equal_bytes: Sequence[Sequence[int]]
    """Groups of ids that stand for the same bytes."""
    equal_rows: Sequence[Sequence[int]]
    """Groups of ids whose rows are equal, in both tables where there are two."""
    undertrained: UnderTrained
    """The ordinary tokens whose rows look untrained."""
    corpus: CorpusUse | None
    """What a corpus uses, where one was given."""
    neighbours: Mapping[int, Sequence[tuple[int, float]]]
    """The rows nearest to each new row, with their cosines."""

    @property
    def never_used(self) -> list[int]:
        """The ordinary tokens that the corpus never uses."""
        uses = self.corpus.uses if self.corpus else []
        return [id_ for id_ in self.ids_of_kind.get("ordinary", ()) if uses and not uses[id_]]

    def quoted(self, ids: Sequence[int], shown: int = _SHOWN) -> str:
        """The first of these ids with their tokens."""
        more = f" and {len(ids) - shown:,} more" if len(ids) > shown else ""
        return ", ".join(f"{id_} {self.quote(id_)}" for id_ in ids[:shown]) + more

    def quote(self, id_: int) -> str:
        """The token in quotes, with escapes for what does not print."""
        return printable(repr(self.tokens[id_]).replace(r"\\x", r"\x"))


def describe_audit(audit: Audit) -> str:
    """The audit for the terminal."""
    counts = [f"{count:>9,}  {name}: {meaning}" for count, name, meaning, _ in _counted(audit)]
    lines = [f"{len(audit.tokens) - len(audit.padding):,} tokens, {audit.rows:,} rows", *counts]
    for name in ("unreachable", "partial without text", "never text"):
        lines += [f"{name}: {audit.quoted(ids)}" for ids in [audit.ids_of_kind.get(name, [])] if ids]
    lines += [f"same bytes: {audit.quoted(ids)}" for ids in audit.equal_bytes[:_SHOWN]]
    lines += [f"same row: {audit.quoted(ids)}" for ids in audit.equal_rows[:_SHOWN]]
    lines.append(f"{undertrained_sentence(audit)}\n  {audit.quoted([id_ for id_, _ in audit.undertrained.worst])}")
    if audit.corpus:
        lines.append(f"never used in {audit.corpus.documents:,} documents: {audit.quoted(audit.never_used)}")
    lines += [f"next to {audit.quoted([id_])}: {_neighbours(audit, id_)}" for id_ in list(audit.neighbours)[:_SHOWN]]
    return "\n".join(lines)


def undertrained_sentence(audit: Audit) -> str:
    """How many rows look untrained, and by what."""
    found = audit.undertrained
    if not found.is_distinct:
        return (
            f"under-trained: cannot be told: {found.reference_rows} rows that no text trains measure "
            f"{found.reference:.2f} of the median row; the worst 2 % all the same:"
        )
    return (
        f"under-trained: {len(found.flagged):,} ordinary tokens measure below {found.threshold:.2f} of the median row, "
        f"{found.reference_rows} rows that no text trains {found.reference:.2f}; the worst 2 %:"
    )


def to_html(audit: Audit, name: str) -> str:
    """One page that needs nothing beside it."""
    return page(f"Audit of {name}", audit_parts(audit))


def audit_parts(audit: Audit) -> list[str]:
    """What stands on that page below its title."""
    counted = _counted(audit)
    worst = [(audit.quoted([id_]), f"{measure:.3f}") for id_, measure in audit.undertrained.worst]
    parts = [
        paragraph(f"{len(audit.tokens) - len(audit.padding):,} tokens, {audit.rows:,} rows."),
        table(
            ["", "ids"], [(f"{label}: {meaning}", f"{count:,}") for count, label, meaning, _ in counted], numbers=True
        ),
        *(
            paragraph(f"{label}: {audit.quoted(ids, 40)}")
            for _, label, _, ids in counted
            if ids and label != "ordinary"
        ),
        heading("Rows that look untrained"),
        paragraph(undertrained_sentence(audit)),
        table(["token", "measure"], worst[:_SHOWN_ON_THE_PAGE], numbers=True),
    ]
    if audit.corpus:
        parts += [heading("Use in the corpus"), *_corpus_parts(audit)]
    neighbours = [(audit.quoted([id_]), _neighbours(audit, id_)) for id_ in audit.neighbours]
    if neighbours:
        header = ["token", "nearest rows, with cosines"]
        parts += [heading("Neighbours of new rows"), table(header, neighbours[:_SHOWN_ON_THE_PAGE])]
    reasons = [(audit.quoted([id_]), printable(why)) for id_, why in audit.reasons.items()]
    if reasons:
        header = ["token", "why"]
        parts += [heading("Tokens that no text was found for"), table(header, reasons[:_SHOWN_ON_THE_PAGE])]
    return parts


def _counted(audit: Audit) -> list[tuple[int, str, str, Sequence[int]]]:
    """Count, name, meaning and ids of every kind, of padding, of duplicates and of what the corpus never uses."""
    kinds = [(name, meaning, audit.ids_of_kind.get(name, [])) for name, meaning in KINDS.items()]
    same_bytes = [id_ for group in audit.equal_bytes for id_ in group]
    same_rows = [id_ for group in audit.equal_rows for id_ in group]
    others = [
        ("padding", "row without a token", audit.padding),
        ("same bytes", "stands for the same bytes as another id", same_bytes),
        ("same row", "has the same row as another id, bit for bit", same_rows),
    ]
    if audit.corpus:
        others.append(("never used", "ordinary token that the corpus does not use", audit.never_used))
    return [(len(ids), name, meaning, ids) for name, meaning, ids in [*kinds, *others]]


def _corpus_parts(audit: Audit) -> list[str]:
    assert audit.corpus
    uses = audit.corpus.uses
    used = sorted(((uses[id_], id_) for id_ in audit.ids_of_kind.get("ordinary", ())), reverse=True)
    total, never = sum(uses), len(audit.never_used)
    parts = [
        paragraph(f"{audit.corpus.documents:,} documents, {total:,} tokens; {never:,} ordinary tokens never occur.")
    ]
    if can_plot():
        figure = new_figure(3.0)
        axes = figure.subplots()
        axes.plot(range(1, len(used) + 1), [max(count, 0.5) for count, _ in used])
        axes.set(xscale="log", yscale="log", xlabel="ordinary tokens by use", ylabel="occurrences")
        parts.append(image("Occurrences of each token", as_data_uri(figure)))
    often = [(audit.quoted([id_]), f"{count:,}") for count, id_ in used[:20]]
    return [
        *parts,
        table(["token", "occurrences"], often, numbers=True),
        paragraph(f"Never: {audit.quoted(audit.never_used, 200)}"),
    ]


def _neighbours(audit: Audit, id_: int) -> str:
    return ", ".join(f"{other} {audit.quote(other)} {cosine:.2f}" for other, cosine in audit.neighbours[id_])
