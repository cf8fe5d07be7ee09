"""A table as HTML, in a region that scrolls by itself where the page is narrower, also by keys."""

from collections.abc import Sequence

from apps.showing.look import escape


def table_as_html(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table; `name` is what a screen reader calls it.

    >>> table_as_html("Runs", ["run"], [["a<b"]]).partition("<tbody>")[2]
    '<tr><td>a&lt;b</td></tr></tbody></table></div>'
    """
    return framed(
        name, head, "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    )


def framed(name: str, head: Sequence[str], body: str) -> str:
    """The same of rows that are HTML already."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
