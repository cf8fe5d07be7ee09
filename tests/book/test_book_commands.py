"""Every command of the book runs, page by page, and prints what the page says where nothing had to be made shorter.

Names of the Hub and of tiktoken's downloads stand for files here, and settings are appended that make training short.
Commands run inside this process, which spares each the seconds of its imports; `make test-long` starts them for real.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from accelerate.state import AcceleratorState

from tests.book.pages import BOOK, consoles, mentioned
from tests.finetune.tiny_models import save_tiny_base, write_questions
from tests.house.repository import ROOT
from tests.house.short_commands import ON_THE_HUB, SHORT
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.bpe.tiktoken_files import write_ranks

SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
SHORTER = {
    **SHORT,
    # A checkpoint a step, since a page goes on from one.
    "scratch_models/train.py": SHORT["scratch_models/train.py"].replace("--checkpoint_steps 0", "--checkpoint_steps 1")
    + " --blocks_per_batch 2 --vocabulary_size 300 --precision fp32",
    "scratch_models/ladder.py": "--corpus field.txt --max_steps 2 --block_size 8 --width 16 --layers 1 --heads 2",
    "scratch_models/backpropagation.py": "--points 6 --width 2 --max_steps 2",
    "scratch_models/scaling.py": "--corpus field.txt --sizes 1x16 2x16 --steps 4 8 16 --held_back_size 2x32 "
    "--held_back_steps 32 --block_size 16 --blocks_per_batch 2",
    "scratch_models/image_tokens.py": "--codes 16 --autoencoder_steps 60 --max_steps 5 --digits_per_name 1",
    "tests/book/figures.py": "--corpus field.txt --output_dir drawn --steps 4",
}
ELSEWHERE = {"cl100k_base": "few.tiktoken", ON_THE_HUB: "tiny"}
"""What a test has no network for, and the file that stands for it."""
SMALL = "--layers 1 --width 16 --heads 2 --block_size 32 --blocks_per_micro_batch 1 --compile false"
NO_TEST = {"make docs": "tests/book/test_pages.py builds it"}


def _commands(page: str) -> list[tuple[str, list[str]]]:
    said = consoles(page)
    known = {command for command, _ in said}
    return said + [(command, []) for command in mentioned(page) if command not in known and command not in NO_TEST]


PAGES = [page for page in BOOK if _commands(page)]
# Fine-tuning takes its time even when it is short, and a launcher starts processes of its own.
SLOW = re.compile(
    r"embedded_base\.yaml|finetune\.|accelerate |benchmarks|\.ladder |\.scaling |speedrun|image_tokens|figures$"
)
QUICK = [page for page in PAGES if not all(SLOW.search(command) for command, _ in _commands(page))]


def _lay_out(place: Path) -> Path:
    """Puts what the commands name into a folder."""
    for name in ("configs", "finetune", "scratch_models", "tests"):
        (place / name).symlink_to(ROOT / name)
    text = "\n\n".join(topics.values()).encode("ascii", "ignore").decode()[:150_000]
    (place / "field.txt").write_text(text, encoding="utf-8")
    save_tiny_base(place / "tiny")
    write_questions(place / "gsm8k.jsonl")
    (place / "shakespeare.txt").symlink_to(SHAKESPEARE if SHAKESPEARE.is_file() else "field.txt")
    write_ranks(train_bpe([text], 400).ranks, place / "few.tiktoken")
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of all pages run, each once."""
    return _lay_out(tmp_path_factory.mktemp("reader"))


def _words(command: str) -> tuple[list[str], bool]:
    """The words of a command as it is run here, and whether it is the one of the page to the letter."""
    run = command
    for name, instead in ELSEWHERE.items():
        run = run.replace(name, instead)
    named = re.search(r"-m ([\w.]+)|(\w+/\w+\.py)", run)
    assert named, command
    entry = named[2] or named[1].replace(".", "/") + ".py"
    words = [*shlex.split(run), *shlex.split(SHORTER.get(entry, ""))]
    if "configs/sft_gsm8k.yaml" in run:  # its base is on the Hub
        words += ["--base", ELSEWHERE[ON_THE_HUB]]
    if "configs/gpt2_124m_fineweb_edu.yaml" in run:  # its tokenizer is on the Hub, and it is a large model
        words += ["--tokens", ELSEWHERE[ON_THE_HUB], *shlex.split(SMALL)]
    return words, shlex.join(words) == shlex.join(shlex.split(command))


def _run_here(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `python -m module ...` or `accelerate launch file ...` does, in this process."""
    start = next(place for place, word in enumerate(words) if re.fullmatch(r"\w+/\w+\.py|[\w]+(\.\w+)+", word))
    module = words[start].removesuffix(".py").replace("/", ".")
    monkeypatch.setattr(sys, "argv", [module, *words[start + 1 :]])
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision
    runpy.run_module(module, run_name="__main__", alter_sys=True)


@pytest.mark.parametrize("page", QUICK)
def test_the_quick_commands_of_a_page_run_and_say_what_the_page_says(
    page: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(folder)
    ran = Path("ran")
    done = ran.read_text().splitlines() if ran.exists() else []  # on another page
    for command, expected in _commands(page):
        if command in done or SLOW.search(command):
            continue
        words, is_whole = _words(command)
        _run_here(words, monkeypatch)
        said = capsys.readouterr().out.rstrip("\n").splitlines()
        if expected and is_whole and SHAKESPEARE.is_file():
            assert said == expected, command
        with ran.open("a") as file:
            file.write(f"{command}\n")


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs_as_a_process_of_its_own(page: str, tmp_path: Path):
    place = _lay_out(tmp_path)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT)}
    for command, _ in _commands(page):
        ended = subprocess.run(_words(command)[0], capture_output=True, text=True, cwd=place, env=environment)
        assert ended.returncode == 0, command + ended.stdout + ended.stderr
