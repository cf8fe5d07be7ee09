"""A page that needs nothing beside it: headings, paragraphs, tables, and images inside it."""

from collections.abc import Iterable, Sequence
from html import escape

from tokenizer_ext.pages.palette import FONT, MONO, variables

STYLE = (
    f"""
{variables()}
body {{ font: 16px/1.55 {FONT}; }}
code, pre {{ font-family: {MONO}; }}
"""
    + """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--back); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.3; font-weight: 650; }
h2 { font-size: 1.15rem; line-height: 1.3; font-weight: 650; margin: 2rem 0 .5rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; }
table.samples { table-layout: fixed; font-size: .85rem; min-width: 44rem; }
th { color: var(--quiet); font-weight: 600; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; color: var(--quiet); }
img { width: 100%; background: #fff; border-radius: 6px; }
"""
)
SHOWN_ROWS = 12
"""Of a table that is folded."""


def page(title: str, parts: Iterable[str]) -> str:
    """The page of this title; `parts` come from the functions below."""
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def heading(text: str) -> str:
    """A heading below the title.

    >>> heading("Loss & more")
    '<h2>Loss &amp; more</h2>'
    """
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def image(name: str, source: str) -> str:
    """An image, given as a data URI, with its name for those who do not see it."""
    return f'<p><img alt="{escape(name)}" src="{source}"></p>'


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False, kind: str = "", folded: bool = False
) -> str:
    """A table; with `numbers` every column but the first is set as numbers. A header of empty cells is left out.

    One that is wider than the page moves in a box of its own. Of one that is `folded` the first rows are seen, and the
    others once they are asked for.
    """

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if numbers and place else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    def boxed(some: Sequence[Sequence[str]]) -> str:
        body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in some)
        head = f"<thead><tr>{row(header, 'th')}</tr></thead>" if any(header) else ""
        return f'<div class="wide" tabindex="0"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'

    if not folded or len(rows) <= SHOWN_ROWS:
        return boxed(rows)
    rest = f"<details><summary>{len(rows) - SHOWN_ROWS} more</summary>{boxed(rows[SHOWN_ROWS:])}</details>"
    return boxed(rows[:SHOWN_ROWS]) + rest
