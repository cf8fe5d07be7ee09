"""What an extension would add as HTML: the curve with its knee, and every token with what it saves."""

from html import escape

from tokenizer_ext.inspection.proposal import Proposal, ProposedToken
from tokenizer_ext.pages.html_page import heading, paragraph
from tokenizer_ext.pages.line_chart import line_chart

SHOWN = 500
"""Tokens in the table."""


def curve_as_html(proposal: Proposal) -> str:
    """What the text is, what all tokens save of it, and the curve with its knee."""
    measured = f"{proposal.held_out:,} documents held out" if proposal.held_out else "the text itself: it is short"
    saved = proposal.points[-1][1]
    said = (
        f"{len(proposal.tokens):,} new tokens save {saved:.1%} of all tokens, measured on {measured}. {_knee(proposal)}"
    )
    read = f"Learned from {proposal.documents:,} documents; {proposal.duplicates:,} duplicates left out."
    title = f"{said} Points: " + ", ".join(f"{count} {share:.1%}" for count, share in proposal.points)
    chart = line_chart(proposal.points, title, ("new tokens", "tokens saved"), proposal.knee or None)
    return paragraph(said) + paragraph(read) + chart


def tokens_as_html(proposal: Proposal) -> str:
    """The tokens in the order in which they would be learned, each with a button that strikes it."""
    body = "".join(_row(token) for token in proposal.tokens[:SHOWN])
    more = len(proposal.tokens) - SHOWN
    rest = paragraph(f"{more:,} more are proposed and not shown.") if more > 0 else ""
    cells = {"token": "", "strike": "", "saves": " class=number", "uses": " class=number", "made of": ""}
    header = "".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in cells.items())
    return (
        f'{heading("What each saves")}<div class="scrolled" tabindex="0" role="region" aria-label="proposed tokens">'
        f'<table class="proposed"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>{rest}'
    )


def _knee(proposal: Proposal) -> str:
    if not proposal.knee:
        return "There is no knee: the last of them save as much as the first."
    return (
        f"The knee is at {proposal.knee:,}, which save {proposal.saved_at_knee:.1%}: from there on each saves less "
        "than on average."
    )


def _row(token: ProposedToken) -> str:
    shown = escape(show_token(token.content))
    parts = escape(" + ".join(map(show_token, token.parts)))
    strike = f'<button type="button" data-strike="{escape(token.written)}" aria-label="strike {shown}">Strike</button>'
    return (
        f"<tr><td>{shown}</td><td>{'asked for' if token.is_word else strike}</td>"
        f"<td class=number>{token.saves:,}</td><td class=number>{token.uses:,}</td><td>{parts}</td></tr>"
    )


def show_token(content: bytes) -> str:
    r"""A token in which spaces are seen, with escapes for what does not print and for bytes that are no character.

    >>> show_token(b" the\n"), show_token("é".encode()[:1])
    ('·the⏎', '\\xc3')
    """
    text = content.decode(errors="backslashreplace")
    marked = text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in marked
    )
