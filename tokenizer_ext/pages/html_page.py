"""A page that needs nothing beside it: headings, paragraphs, tables, and images inside it."""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
table.samples { table-layout: fixed; font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #ddd; }
td { white-space: pre-wrap; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
img { width: 100%; }
"""


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


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False, kind: str = "") -> str:
    """A table; with `numbers` every column but the first is set as numbers. A header of empty cells is left out."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if numbers and place else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    head = f"<thead><tr>{row(header, 'th')}</tr></thead>" if any(header) else ""
    return f'<table class="{kind}">{head}<tbody>{body}</tbody></table>'
