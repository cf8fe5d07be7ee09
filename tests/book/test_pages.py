"""The book is built without a warning, without the network, and says of each rung what it promises."""

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.figures import DRAWN, FIGURES
from tests.book.pages import BOOK, DOCS, PAGES, RUNGS, page_path, text_of
from tests.house.repository import ROOT

SECTIONS = ["What it is", "The code", "What to expect", "What to try"]
SOURCE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The site as `make docs` builds it, from a copy: a dead link or anchor, or a name that is not there, fails."""
    place: Path = tmp_path_factory.mktemp("book")
    shutil.copytree(DOCS, place / "docs")
    shutil.copyfile(ROOT / "mkdocs.yml", place / "mkdocs.yml")
    for name in ("configs", "tokenizer_ext", "scratch_models", "finetune", "tests"):
        (place / name).symlink_to(ROOT / name)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=place)
    assert ended.returncode == 0 and "No issues found" in ended.stderr, ended.stdout + ended.stderr
    return place / "build" / "book"


def test_every_page_is_in_the_navigation_once_and_built(built: Path):
    assert sorted(PAGES) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    assert [page for page in PAGES if not (built / page).with_suffix(".html").is_file()] == []


@pytest.mark.parametrize("page", RUNGS)
def test_a_rung_shows_source_in_the_place_of_each_name(page: str, built: Path):
    named = SOURCE.findall(text_of(page))
    shown = (built / page).with_suffix(".html").read_text(encoding="utf-8")
    assert named
    for name in named:
        assert f">{name.rsplit('.', 1)[-1]}</span>" in shown, name


@pytest.mark.parametrize("page", RUNGS)
def test_a_rung_has_its_four_sections_in_120_lines(page: str):
    text = text_of(page)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert len(text.splitlines()) <= 120


@pytest.mark.parametrize("page", BOOK)
def test_the_examples_of_a_page_give_what_stands_below_them(page: str):
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", text_of(page), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, page, str(page_path(page)), 0)
    said: list[str] = []
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append).failed == 0, "".join(said)


def test_nothing_is_loaded_from_a_network(built: Path):
    loads = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=\"?(?:https?:)?//|<link[^>]*\bhref=\"?(?:https?:)?//")
    assert [str(page) for page in built.rglob("*.html") if loads.search(page.read_text(encoding="utf-8"))] == []
    assert [str(sheet) for sheet in built.rglob("*.css") if re.search(r"url\(\W?https?:", sheet.read_text())] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_to_elsewhere_are_whole_and_encrypted(page: str):
    links = re.findall(r"\]\((\w+:[^)\s]*)\)|<(https?:[^>\s]+)>", text_of(page))
    assert [link for pair in links for link in pair if link and not re.match(r"https://[\w-]+(\.[\w-]+)+/", link)] == []


def test_every_figure_is_shown_and_can_be_drawn_anew():
    shown = {name for page in BOOK for name in re.findall(r"\]\(figures/([\w.]+)\)", text_of(page))}
    assert shown == {path.name for path in FIGURES.iterdir()}
    assert shown == {f"{name}.svg" for name in DRAWN}
    assert [path.name for path in FIGURES.iterdir() if path.stat().st_size > 150_000] == []
