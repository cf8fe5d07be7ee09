"""The pages of the book as the navigation lists them, and what stands in them."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.house.repository import ROOT

DOCS = ROOT / "docs"
RUNS = re.compile(r"(?:\w+=\S+ )*(?:python -m|python \S+\.py|make|accelerate launch) ")


def _listed(entries: list[Any]) -> list[str]:
    pages: list[str] = []
    for entry in entries:
        below = next(iter(entry.values())) if isinstance(entry, dict) else entry
        pages += _listed(below) if isinstance(below, list) else [below]
    return pages


PAGES = _listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
"""Every page, relative to docs."""
RUNGS = [page for page in PAGES if page.startswith("book/")]
BOOK = ["index.md", *RUNGS]
"""The pages that are read from the first to the last; the others are the manual."""


def text_of(page: str) -> str:
    """The Markdown of a page."""
    return (DOCS / page).read_text(encoding="utf-8")


def consoles(page: str) -> list[tuple[str, list[str]]]:
    """The commands in the console blocks of a page, each with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text_of(page), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def mentioned(page: str) -> list[str]:
    """The commands between single backticks, whole enough to be run."""
    outside = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    return [command for command in re.findall(r"`([^`\n]+)`", outside) if RUNS.match(command)]


def page_path(page: str) -> Path:
    """The file of a page."""
    return DOCS / page
