"""One HTML page of what a model computes of a prompt: the figures as JSON inside it, drawn by a script inside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scratch_models.looking.reading import ATTENTION, LENS
from tokenizer_ext.pages.html_page import heading, page, paragraph, table
from tokenizer_ext.pages.terminal import printable

ASSETS = Path(__file__).parents[1] / "assets" / "look"
FIGURES = "figures"
"""The id of the element that holds the JSON."""

_ATTENTION = (
    "A square for each head: a row of layers, a column of heads. In it a row is a token that reads, a column a token "
    "that is read; the darker, the more (the shade follows the root of the weight). A row sums to 1. Click a square to "
    "enlarge it."
)
_LENS = (
    "The residual stream, read out by the model's own final norm and head before the first layer and after each: what "
    "the model would say, were it to end there. A cell holds the likeliest next token; the greener, the more "
    "probable the token that really follows. Point at a cell to see more, click it for the token."
)
_NEXT = "After the token that is marked above; click another one to see what the model expects after it."
_NEAREST = "The tokens whose rows of the embedding point nearly the same way, with the cosine."
_DIRECTIONS = (
    "The rows nearest to the sum of the words' rows, each of length 1. A word that was asked with is marked *."
)


def to_html(figures: Mapping[str, Any]) -> str:
    """The page; it asks nothing of the network."""
    inside = json.dumps(figures, ensure_ascii=False).replace("<", "\\u003c")  # no text may end the element
    parts = [
        f"<style>{(ASSETS / 'look.css').read_text(encoding='utf-8')}</style>",
        paragraph(f"{figures['model']}, read a prompt of {len(figures['ids'])} tokens."),
        "<noscript><p>The squares and the lens are drawn by a script inside this page: allow it to run.</p></noscript>",
        heading("Tokens"),
        '<div id="tokens"></div>',
        heading("The next token"),
        paragraph(_NEXT),
        '<div id="next"></div>',
        heading("Attention"),
        *_shown(figures, ATTENTION, _ATTENTION, '<div id="attention" class="wide"></div>'),
        heading("Logit lens"),
        *_shown(figures, LENS, _LENS, '<div id="lens" class="wide"></div>'),
        heading("Nearest rows"),
        paragraph(_NEAREST),
        table(
            ["token", "nearest"], [(visible_spaces(row["text"]), _cosines(row["rows"])) for row in figures["nearest"]]
        ),
        heading("Directions"),
        paragraph(_DIRECTIONS),
        *_direction_parts(figures["directions"]),
        f'<script type="application/json" id="{FIGURES}">{inside}</script>',
        f"<script>{(ASSETS / 'look.js').read_text(encoding='utf-8')}</script>",
    ]
    return page(f"Looking inside {figures['checkpoint']}", parts)


def read_figures(html: str) -> dict[str, Any]:
    """The figures of a page."""
    _, _, inside = html.partition(f'<script type="application/json" id="{FIGURES}">')
    figures: dict[str, Any] = json.loads(inside.partition("</script>")[0])
    return figures


def visible_spaces(text: str) -> str:
    r"""A token as the page writes it: spaces and line breaks are seen, and no line is broken at them.

    >>> visible_spaces(" the\n")
    '·the⏎'
    """
    return printable(text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥"))


def quote(text: str) -> str:
    """A token in quotes, with escapes for what does not print."""
    return printable(repr(text).replace("\\\\x", "\\x"))


def describe(figures: Mapping[str, Any]) -> str:
    """The page in a few lines for the terminal: what is expected next, what was left out."""
    likely = ", ".join(f"{quote(one['text'])} {one['probability']:.1%}" for one in figures["next"][-1][:5])
    lines = [f"{figures['model']}; after the prompt it expects {likely}"]
    lines += [f"{what}: left out: {why}" for what, why in figures["left_out"].items()]
    lines += [_missing_words(direction) for direction in figures["directions"] if direction["missing"]]
    return "\n".join(lines)


def _missing_words(direction: Mapping[str, Any]) -> str:
    """Which words of a direction are no token, as a sentence."""
    words = ", ".join(map(quote, direction["missing"]))
    return f"{direction['text']}: left out, for the vocabulary has no single token for {words}"


def _shown(figures: Mapping[str, Any], what: str, explained: str, place: str) -> list[str]:
    if what in figures["left_out"]:
        return [paragraph(f"Left out: {figures['left_out'][what]}.")]
    return [paragraph(explained), place]


def _direction_parts(directions: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [(one["text"], _cosines(one["rows"])) for one in directions if not one["missing"]]
    missing = [paragraph(f"{_missing_words(one)}.") for one in directions if one["missing"]]
    return [*([table(["direction", "nearest"], found)] if found else []), *missing]


def _cosines(rows: Sequence[Mapping[str, Any]]) -> str:
    named = [f"{'*' if row.get('asked') else ''}{visible_spaces(row['text'])} {row['cosine']:.3f}" for row in rows]
    return ",  ".join(named)
