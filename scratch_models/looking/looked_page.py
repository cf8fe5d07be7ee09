"""Parts of what was found in a model as HTML: tokens, what follows one, where heads look, the logit lens.

Only classes are named here: the page that shows it has the colours. A cell carries its share as `--share`.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from scratch_models.looking.look_page import visible_spaces
from scratch_models.looking.looked import Looked
from scratch_models.looking.reading import ATTENTION, LENS
from tokenizer_ext.pages.html_page import paragraph
from tokenizer_ext.pages.shortened import shorten

LABEL = 14
"""Characters of a token beside a table."""
MARKED = ' class="marked" aria-current="true"'


def tokens_as_html(looked: Looked, token: int) -> str:
    """The tokens of the prompt, numbered from 1, one of them marked."""
    items = "".join(
        f"<li{MARKED if place == token else ''}><small>{place + 1}</small>{escape(visible_spaces(text))}</li>"
        for place, text in enumerate(looked.texts)
    )
    return f'<ol class="looked" aria-label="tokens of the prompt">{items}</ol>'


def following_as_html(looked: Looked, token: int) -> str:
    """The likeliest tokens after one, as bars with their probabilities."""
    rows = "".join(_bar(one["text"], one["probability"], f"id {one['id']}") for one in looked.following[token])
    return f'<table class="bars"><caption>{_after(looked, token)}</caption><tbody>{rows}</tbody></table>'


def heads_as_html(looked: Looked, token: int, layer: int, head: int) -> str:
    """For each head the token that one token reads most from; the chosen head is marked."""
    if looked.attention is None:
        return _left_out(looked, ATTENTION)
    header = "".join(f'<th scope="col">head {number}</th>' for number in range(1, looked.heads + 1))
    body = "".join(
        f'<tr><th scope="row">layer {number}</th>'
        + "".join(
            f'<td{MARKED if (number - 1, place) == (layer, head) else ""} style="--share:{weight:.3f}">'
            f"{_label(looked.texts[read])} {weight:.0%}</td>"
            for place, (read, weight) in enumerate(heads)
        )
        + "</tr>"
        for number, heads in enumerate(looked.reads_most(token), 1)
    )
    caption = f"What each head reads most from at token {token + 1}, {_quoted(looked.texts[token])}."
    return _scrolled(caption, header, body, "heads")


def head_as_html(looked: Looked, layer: int, head: int) -> str:
    """The weights of one head: a row reads, a column is read."""
    if looked.attention is None:
        return _left_out(looked, ATTENTION)
    weights = looked.attention[layer, head].tolist()
    header = "".join(f'<th scope="col"><span>{_label(text)}</span></th>' for text in looked.texts)
    body = "".join(
        f'<tr><th scope="row">{_label(looked.texts[reader])}</th>'
        + "".join(_square(looked, reader, read, row[read]) for read in range(reader + 1))
        + "</tr>"
        for reader, row in enumerate(weights)
    )
    caption = f"Layer {layer + 1}, head {head + 1}: each row reads from the columns, and sums to 1."
    return _scrolled(caption, header, body, "head")


def reads_as_html(looked: Looked, layer: int, head: int, token: int) -> str:
    """What one token reads through one head, as bars in the order of the prompt."""
    if looked.attention is None:
        return ""
    weights = looked.attention[layer, head, token, : token + 1].tolist()
    rows = "".join(_bar(looked.texts[place], weight, f"token {place + 1}") for place, weight in enumerate(weights))
    caption = f"Token {token + 1}, {_quoted(looked.texts[token])}, reads through layer {layer + 1}, head {head + 1}:"
    return f'<table class="bars"><caption>{caption}</caption><tbody>{rows}</tbody></table>'


def side_by_side(*parts: str) -> str:
    """Parts beside one another where there is room, else one below the other."""
    return f'<div class="columns">{"".join(f"<section>{part}</section>" for part in parts if part)}</div>'


def lens_as_html(looked: Looked) -> str:
    """The likeliest next token by layer; the deeper a cell's colour, the more probable is the one that follows."""
    if not looked.lens:
        return _left_out(looked, LENS)
    header = "".join(f'<th scope="col">{_label(text)}</th>' for text in looked.texts)
    body = "".join(
        f'<tr><th scope="row">{f"after layer {number}" if number else "embedding"}</th>'
        + "".join(_said(looked, stage, place) for place in range(len(looked.texts)))
        + "</tr>"
        for number, stage in enumerate(looked.lens)
    )
    caption = "What the model would say next, were it to end at a layer."
    return _scrolled(caption, header, body, "lens")


def _said(looked: Looked, stage: Sequence[Mapping[str, Any]], place: int) -> str:
    top, actual = stage[place]["top"], stage[place]["actual"]
    lines = [f"{visible_spaces(one['text'])} {one['probability']:.1%}" for one in top]
    if actual is not None:
        lines.append(f"really {visible_spaces(looked.texts[place + 1])} {actual:.1%}")
    share = f' style="--share:{actual**0.5:.3f}"' if actual is not None else ""
    said = escape("\n".join(lines))
    return f'<td title="{said}"{share}>{_label(top[0]["text"])}</td>'


def _square(looked: Looked, reader: int, read: int, weight: float) -> str:
    said = f"{visible_spaces(looked.texts[reader])} reads {weight:.1%} from {visible_spaces(looked.texts[read])}"
    return f'<td title="{escape(said)}" style="--share:{weight**0.5:.3f}"></td>'


def _bar(text: str, share: float, title: str) -> str:
    shown = f"{share:.1%}" if share >= 0.001 else f"{share:.4%}"
    return (
        f'<tr title="{title}"><th scope="row">{_label(text)}</th>'
        f'<td class="share"><i style="--share:{share:.4f}"></i></td><td class="number">{shown}</td></tr>'
    )


def _after(looked: Looked, token: int) -> str:
    return f"Expected after token {token + 1}, {_quoted(looked.texts[token])}:"


def _scrolled(caption: str, header: str, body: str, kind: str) -> str:
    """A table that scrolls in a box of its own, which the keyboard reaches."""
    return (
        f'<div class="scrolled" tabindex="0" role="region" aria-label="{caption}"><table class="{kind}">'
        f"<caption>{caption}</caption><thead><tr><td></td>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _left_out(looked: Looked, what: str) -> str:
    return paragraph(f"Left out: {looked.left_out.get(what, 'nothing was read')}.")


def _label(text: str) -> str:
    return escape(shorten(visible_spaces(text), LABEL))


def _quoted(text: str) -> str:
    return f"“{escape(shorten(visible_spaces(text), 40))}”"
