import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, OPTConfig

from configs import run_entry
from scratch_models.look import LookSettings, main
from scratch_models.looking.figures import unpack_attention
from scratch_models.looking.look_page import read_figures
from scratch_models.scratch_folder import save_scratch_model
from tests.scratch_models.test_sample import (
    ALL_KINDS,
    average,
    bytes_bigram,
    bytes_gpt,
    bytes_heads,
    character_bigram,
    character_gpt,
    megabyte,
)

CHROMIUM = shutil.which("chromium")


def saved(kind: Any, folder: Path) -> str:
    torch.manual_seed(0)
    model, vocabulary = kind()
    save_scratch_model(model, vocabulary, folder)
    return str(folder)


def look(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["look", *arguments])
    run_entry(main, LookSettings)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_scratch_model_has_a_page_and_what_it_lacks_is_said(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = saved(kind, tmp_path / "run" / "final")
    folder = tmp_path / "look"
    arguments = ("--prompt", "a bad", "--direction", "a - b + c", "--output_dir", str(folder))
    look(monkeypatch, "--checkpoint", str(Path(checkpoint).parent), *arguments)
    html = (folder / "look.html").read_text(encoding="utf-8")
    figures = read_figures(html)
    assert figures["texts"] == list("a bad")
    assert figures["directions"][0]["tokens"] == ["a", "b", "c"]
    for place in figures["next"]:
        assert 0 < sum(one["probability"] for one in place) <= 1 + 1e-6
    has_neither = kind in (character_bigram, bytes_bigram, megabyte)
    expected = {"attention", "lens"} if has_neither else {"attention"} if kind is average else set()
    assert set(figures["left_out"]) == expected
    printed = capsys.readouterr().out
    for what in expected:
        assert f"{what}: left out" in printed and "Left out: " in html
    if "attention" not in expected:
        weights = unpack_attention(figures["attention"])
        assert weights.shape[1] == (4 if "llama" in kind.__name__ else 2)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))
    if "lens" not in expected:
        assert len(figures["lens"]) == (2 if kind in (average, bytes_heads) else 3)
        assert [place["top"] for place in figures["lens"][-1]] == [place[:5] for place in figures["next"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "xa café y"), "holds 'x', 'é', 'y'"),
        (("--prompt", "abcabcabc"), "9 tokens, expected at most the 8 positions"),
        (("--prompt", ""), "prompt is empty"),
        (("--direction", "king -"), "direction is 'king -', expected words"),
        (("--checkpoint", "/no/such/folder"), "no such folder"),
        (("--checkpoint", "bert"), "its model_type is 'bert', expected one of gpt2, llama"),
        (("--checkpoint", "opt"), "its model_type is 'opt', expected one of gpt2, llama"),
        (("--checkpoint", "empty"), "holds no config.json"),
        (("--checkpoint", "embedded", "--prompt", "the " * 600), "601 tokens, expected at most the 512 positions"),
        (("--output_dir", "taken"), "is not empty"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = saved(character_gpt, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    BertConfig().save_pretrained("bert")
    OPTConfig().save_pretrained("opt")
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        look(monkeypatch, "--checkpoint", checkpoint, "--prompt", "abc", "--output_dir", "look", *arguments)
    assert left.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading the")]
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "look").exists()


def test_a_prompt_that_would_make_a_page_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scratch_models.looking.figures.MAX_WEIGHTS", 2 * 2 * 10)
    checkpoint = saved(bytes_gpt, tmp_path / "model")
    with pytest.raises(SystemExit):
        look(monkeypatch, "--checkpoint", checkpoint, "--prompt", "abcde", "--output_dir", str(tmp_path / "look"))
    assert "prompt: 5 tokens, expected at most 4" in capsys.readouterr().err


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
def test_in_a_browser_the_page_draws_every_head_enlarges_one_and_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import sync_playwright

    prompt = "</script><b>the default is"
    look(monkeypatch, "--checkpoint", "embedded", "--prompt", prompt, "--output_dir", str(tmp_path / "look"))
    file = tmp_path / "look" / "look.html"
    figures = read_figures(file.read_text(encoding="utf-8"))
    assert figures["prompt"] == prompt
    wrong: list[str] = []
    asked: list[str] = []
    with sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        visit = browser.new_page()
        visit.on("pageerror", lambda error: wrong.append(str(error)))
        visit.on("request", lambda request: asked.append(request.url))
        visit.goto(file.as_uri())
        assert visit.locator("#attention canvas").count() == 4 * 5
        assert visit.locator("#lens tbody tr").count() == 5
        shown = visit.locator("#next code").all_text_contents()
        assert shown[0].replace("·", " ").replace("⏎", "\n") == figures["next"][-1][0]["text"]
        visit.locator("#tokens button").first.click()
        first = figures["next"][0][0]["text"].replace(" ", "·").replace("\n", "⏎")
        assert visit.locator("#next code").first.text_content() == first
        visit.locator("#attention button").nth(7).click()
        visit.locator("dialog canvas").hover(position={"x": 115, "y": 115})
        said = visit.locator("dialog p").nth(1).text_content()
        assert said is not None and "(token 0) reads 100.0 %" in said
        browser.close()
    assert wrong == [] and asked == [file.as_uri()]
