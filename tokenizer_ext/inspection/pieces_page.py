"""The pieces of a text as HTML: coloured, whitespace and control characters seen, and what each is made of.

Only classes are named here: the page that shows it has the colours. Each piece is a button, so that the keyboard
reaches it; what it is made of stands inside, for the pointer, the keyboard and who listens to the page.
"""

from collections.abc import Collection, Sequence
from html import escape

from transformers import PreTrainedTokenizerFast

from tokenizer_ext.inspection.code_points import code_point, hex_bytes
from tokenizer_ext.inspection.pieces import CharacterPart, CutText, Piece, cut_text, vocabulary_pieces
from tokenizer_ext.pages.html_page import paragraph, table

COLOURS = 6
SHOWN = 1_000
"""Pieces of each side that are shown; all are counted."""
CHARACTERS_NAMED = 24
"""Code points that are written out of one piece."""
_MARKS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}


def compared_as_html(sides: Sequence[tuple[str, PreTrainedTokenizerFast]], text: str, *, control: bool = False) -> str:
    """A text in two vocabularies side by side, each with its name.

    Raises:
        InputError: a tokenizer has no fast backend.
    """
    cuts = [cut_text(tokenizer, text, control=control, shown=SHOWN) for _, tokenizer in sides]
    known = [vocabulary_pieces(tokenizer) for _, tokenizer in sides]
    columns = "".join(
        f"<section><h3>{escape(name)}</h3>{counts_as_html(cut, others)}{pieces_as_html(cut, others)}</section>"
        for (name, _), cut, others in zip(sides, cuts, reversed(known), strict=True)
    )
    legend = (
        "Each colour change is a new token; · is a space, ⏎ a line break, ⇥ a tab, and hexadecimal bytes are a part of "
        "a character. Underlined are tokens that only this side has. Point at one, or go there with Tab and the arrows."
    )
    said = compare_counts([name for name, _ in sides], cuts)
    return f'{paragraph(said)}<div class="columns">{columns}</div>{paragraph(legend)}'


def compare_counts(names: Sequence[str], cuts: Sequence[CutText]) -> str:
    """Which of two vocabularies needs fewer tokens, and by how much."""
    one, other = (cut.tokens for cut in cuts)
    if one == other:
        return f"Both come to {_count(one, 'token')}."
    fewer, more = sorted((one, other))
    name = names[0] if one < other else names[1]
    return f"{name} needs {1 - fewer / more:.1%} fewer tokens: {fewer:,} instead of {more:,}."


def pieces_as_html(cut: CutText, others: Collection[bytes] | None = None) -> str:
    """The pieces one after the other; those that are none of the `others` are marked."""
    if not cut.tokens:
        return paragraph("No token: the text is empty.")
    buttons = "".join(_button(piece, place, others) for place, piece in enumerate(cut.pieces))
    left = cut.tokens - len(cut.pieces)
    rest = paragraph(f"{left:,} more tokens are counted and not shown.") if left else ""
    return f'<div class="pieces" role="group" aria-label="tokens">{buttons}</div>{rest}'


def counts_as_html(cut: CutText, others: Collection[bytes] | None = None) -> str:
    """How many tokens and bytes a text has, and how many of the pieces shown only this vocabulary has."""
    rows = [
        ("tokens", f"{cut.tokens:,}"),
        ("bytes in UTF-8", f"{cut.text_bytes:,}"),
        ("bytes per token", f"{cut.bytes_per_token:.3f}"),
        ("characters", f"{cut.characters:,}"),
        ("different tokens", f"{cut.distinct:,}"),
    ]
    if others is not None:
        rows.append(("tokens that only this vocabulary has", f"{sum(is_only_here(p, others) for p in cut.pieces):,}"))
    changed = "" if cut.read_as is None else paragraph(f"Its tokenizer reads the text as {_excerpt(cut.read_as)}")
    return table(["", ""], rows, numbers=True, kind="counts") + changed


def is_only_here(piece: Piece, others: Collection[bytes]) -> bool:
    """Whether another vocabulary lacks the piece."""
    return piece.content not in others


def marked_text(piece: Piece) -> str:
    """A piece as HTML: spaces, breaks and control characters as marks, bytes that are no whole character as hex."""
    shown = []
    for part in piece.characters:
        if part.character is None or not part.is_whole:
            held = piece_bytes_of(piece, part)
            shown.append(f"<i>{escape(hex_bytes(held))}</i>")
        elif part.character in _MARKS:
            shown.append(f"<i>{_MARKS[part.character]}</i>")
        elif part.character.isprintable():
            shown.append(escape(part.character))
        else:
            shown.append(f"<i>U+{ord(part.character):04X}</i>")
    return "".join(shown)


def piece_bytes_of(piece: Piece, part: CharacterPart) -> bytes:
    """The bytes of a piece that belong to one of its characters."""
    before = 0
    for other in piece.characters:
        length = other.last - other.first + 1
        if other is part:
            return piece.content[before : before + length]
        before += length
    raise AssertionError("the part is one of the piece")


def describe_piece(piece: Piece, others: Collection[bytes] | None) -> list[str]:
    """What a piece is made of, a line each."""
    kind = " · added token" if piece.is_added else ""
    only = " · only in this vocabulary" if others is not None and is_only_here(piece, others) else ""
    lines = [f"id {piece.id} · {_count(len(piece.content), 'byte')} {hex_bytes(piece.content)}{kind}{only}"]
    for part in piece.characters[:CHARACTERS_NAMED]:
        if part.character is None:
            lines.append("a byte that is no character")
            continue
        share = "" if part.is_whole else f" · here {_range(part)} of {part.of}"
        lines.append(f"{code_point(part.character)}{share}")
    if (left := len(piece.characters) - CHARACTERS_NAMED) > 0:
        lines.append(f"and {left} more characters")
    return lines


def _button(piece: Piece, place: int, others: Collection[bytes] | None) -> str:
    only = others is not None and is_only_here(piece, others)
    kinds = f"piece p{place % COLOURS}{' only' if only else ''}{' added' if piece.is_added else ''}"
    detail = "<br>".join(map(escape, describe_piece(piece, others)))
    breaks = "<br>" * piece.content.count(b"\n")
    reach = 0 if place == 0 else -1  # arrows go on from the first one: a key of a thousand stops helps nobody
    return (
        f'<button type="button" class="{kinds}" tabindex="{reach}">{marked_text(piece) or "<i>∅</i>"}'
        f'<span class="detail">{detail}</span></button>{breaks}'
    )


def _range(part: CharacterPart) -> str:
    return f"byte {part.first}" if part.first == part.last else f"bytes {part.first} to {part.last}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _excerpt(text: str, characters: int = 120) -> str:
    return repr(text if len(text) <= characters else f"{text[:characters]}…") + "."
