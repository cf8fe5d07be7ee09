"""The cache gives what rendering gives, is found by whatever decides the ids, and by nothing else."""

import copy
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.file_hash import hash_code
from finetune.chat import token_cache
from finetune.chat.graft_format import GraftFormat
from finetune.chat.template_format import TemplateFormat
from finetune.chat.token_cache import default_token_cache, entry_key, render_through_cache
from finetune.conversations.formats import Conversation, Message, ToolCall
from tests.finetune.tiny_models import questions
from tests.house.repository import ROOT
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens


def _conversation(*said):
    return Conversation(tuple(Message(role, content) for role, content in said), "p")


CHATS = [_conversation(("user", asked), ("assistant", f"{answer} <<1+1=2>>")) for asked, answer in questions(40)]


WEIGHTED = [replace(one, messages=(one.messages[0], replace(one.messages[1], weight=0.3))) for one in CHATS]


@pytest.fixture
def chat(chat_tokenizer):
    return GraftFormat(chat_tokenizer)


@pytest.fixture
def count_renders(monkeypatch):
    """How many times something was rendered in the project's own format."""
    return _count_renders(monkeypatch, GraftFormat)


@pytest.fixture
def count_templates(monkeypatch):
    """How many times something was rendered by a template."""
    return _count_renders(monkeypatch, TemplateFormat)


def _count_renders(monkeypatch, chat_format):
    calls = []

    def spy(self, conversations):
        calls.append(len(conversations))
        return usual(self, conversations)

    usual = chat_format.render_parts
    monkeypatch.setattr(chat_format, "render_parts", spy)
    return calls


def test_the_second_reading_renders_nothing_and_gives_the_same(chat, tmp_path, count_renders):
    first, second = (render_through_cache(CHATS, chat, tmp_path) for _ in range(2))
    assert count_renders == [40]
    assert list(first) == list(second) == chat.render_set(CHATS)
    assert isinstance(second.input_ids, np.memmap), "mapped, not read"


OTHERS = {
    "another word": [_conversation(("user", "What else?"), ("assistant", "That.")), *CHATS[1:]],
    "one less": CHATS[1:],
    "another order": CHATS[::-1],
    "another role": [
        _conversation(*(("system" if one.role == "user" else one.role, one.content) for one in CHATS[0].messages)),
        *CHATS[1:],
    ],
    "a border moved": [_conversation(("user", "ab"), ("assistant", "c"))],
    "a border before that": [_conversation(("user", "a"), ("assistant", "bc"))],
    "messages of two as one": [_conversation(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))],
    "and apart": [_conversation(("user", "a"), ("assistant", "b")), _conversation(("user", "c"), ("assistant", "d"))],
    "a border written out": [_conversation(("user", "a9:assistant:1:b"))],
}


def test_weights_are_kept_and_a_lost_file_of_them_is_made_again(chat, count_renders, tmp_path):
    weighted = WEIGHTED[:9]
    expected = chat.render_set([*weighted, *CHATS])
    assert expected[0].weights is not None and expected[9].weights is None
    for renders in (2, 2):
        assert render_through_cache([*weighted, *CHATS], chat, tmp_path) == expected
        assert len(count_renders) == renders
    next(tmp_path.glob("*/weights")).unlink()  # it must not read as if all counted 1
    assert render_through_cache([*weighted, *CHATS], chat, tmp_path) == expected
    assert len(count_renders) == 3


TOLD = Message("assistant", "2")
BESIDE = {
    "tools": Conversation((TOLD,), "p", tools='[{"name": "add"}]'),
    "other tools": Conversation((TOLD,), "p", tools="[]"),
    "reasoning": Conversation((replace(TOLD, reasoning="1+1=2"),), "p"),
    "empty reasoning": Conversation((replace(TOLD, reasoning=""),), "p"),
    "not learned": Conversation((replace(TOLD, weight=0),), "p"),
    "learned by half": Conversation((replace(TOLD, weight=0.5),), "p"),
    "learned by a quarter": Conversation((replace(TOLD, weight=0.25),), "p"),
    "a call": Conversation((replace(TOLD, tool_calls=(ToolCall("add", "{}"),)),), "p"),
    "its id": Conversation((replace(TOLD, tool_calls=(ToolCall("add", "{}", "7"),)),), "p"),
    "a name": Conversation((replace(TOLD, name="add"),), "p"),
    "written out": Conversation((replace(TOLD, content='2{"learned": false}'),), "p"),
}


def test_whatever_stands_beside_the_text_has_another_key(chat):
    conversations = [Conversation((TOLD,), "p"), *BESIDE.values()]
    assert len({entry_key([one], chat) for one in conversations}) == len(conversations)


def test_whatever_is_said_otherwise_has_another_key(chat):
    keys = [entry_key(one, chat) for one in [CHATS, *OTHERS.values()]]
    assert len(set(keys)) == len(keys)


def test_where_a_conversation_was_read_from_changes_no_key(chat):
    assert entry_key([replace(one, source="q", answer="2") for one in CHATS], chat) == entry_key(CHATS, chat)


def test_tokenizer_calculator_libraries_and_code_have_keys_of_their_own(chat, chat_tokenizer, monkeypatch):
    keys = [entry_key(CHATS, chat), entry_key(CHATS, GraftFormat(chat_tokenizer, calculator=True))]
    keys.append(entry_key(CHATS, GraftFormat(add_control_tokens(chat_tokenizer, ["<|tool|>"]))))
    monkeypatch.setattr(token_cache.tokenizers, "__version__", "0.0.1")
    keys.append(entry_key(CHATS, chat))
    monkeypatch.setattr(token_cache, "code_sha256", lambda: "other code")
    keys.append(entry_key(CHATS, chat))
    assert len(set(keys)) == 5


TURNS = "{% for one in messages %}<|{{ one.role }}|>{{ one.content }}<|end|>{% endfor %}"
TEMPLATE = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"


def test_a_template_is_found_again_and_its_text_and_options_have_keys_of_their_own(
    chat_tokenizer, tmp_path, count_templates
):
    """huggingface/trl PR#6206: a fingerprint that changed with every run, so that no cache was ever hit."""

    def chat(template, **options):
        tokenizer = copy.deepcopy(chat_tokenizer)
        tokenizer.chat_template = template
        return TemplateFormat(tokenizer, options=options)

    first, second = (render_through_cache(CHATS, chat(TEMPLATE), tmp_path) for _ in range(2))
    assert list(first) == list(second) and count_templates == [len(CHATS)]
    others = [chat(TEMPLATE.replace("one.content }}", "one.content }} ")), chat(TEMPLATE, brief=True)]
    keys = {entry_key(CHATS, other) for other in (chat(TEMPLATE), *others, GraftFormat(chat_tokenizer))}
    assert len(keys) == 4


DECIDING = ["finetune/chat/graft_format.py", "finetune/chat/calculator.py", "tokenizer_ext/huggingface/hf_tokenizer.py"]


def _hashes_around_a_change(module, tmp_path):
    for package in ("finetune", "tokenizer_ext"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    folders = [tmp_path / folder.relative_to(ROOT) for folder in token_cache.DECIDES_IDS]
    before = hash_code(folders)
    assert before == token_cache.code_sha256()
    path = tmp_path / module
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "# changed\n")
    return before, hash_code(folders)


@pytest.mark.parametrize("module", [*DECIDING, "finetune/chat/formats/later.py"])
def test_a_changed_line_of_the_code_that_renders_changes_the_hash_of_the_code(module, tmp_path):
    before, after = _hashes_around_a_change(module, tmp_path)
    assert after != before


@pytest.mark.parametrize("module", ["finetune/dpo.py", "finetune/rows/training.py", "tokenizer_ext/pages/terminal.py"])
def test_a_changed_line_of_code_that_decides_no_ids_keeps_what_is_cached(module, tmp_path):
    before, after = _hashes_around_a_change(module, tmp_path)
    assert after == before


def test_the_calculators_results_are_kept_as_not_learned(chat_tokenizer, tmp_path):
    chat = GraftFormat(chat_tokenizer, calculator=True)
    for _ in range(2):
        assert list(render_through_cache(CHATS, chat, tmp_path)) == chat.render_set(CHATS)
    assert chat.render_set(CHATS) != GraftFormat(chat_tokenizer).render_set(CHATS)


def _cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def _empty(path):
    path.write_bytes(b"")


def _replace_by_less(path):
    dtype = token_cache.PARTS.get(path.name, np.uint8)
    np.fromfile(path, dtype=dtype)[:-1].tofile(path)


@pytest.mark.parametrize("part", [*token_cache.PARTS, token_cache.SIZES])
@pytest.mark.parametrize("damage", [_cut_short, _empty, _replace_by_less, os.remove])
def test_an_entry_that_is_not_whole_is_made_again(chat, tmp_path, part, damage):
    render_through_cache(WEIGHTED, chat, tmp_path)
    (entry,) = tmp_path.iterdir()
    damage(entry / part)
    assert render_through_cache(WEIGHTED, chat, tmp_path) == chat.render_set(WEIGHTED)
    assert token_cache._open(entry) is not None
    assert list(tmp_path.iterdir()) == [entry], "and nothing is left beside it"


def test_a_folder_that_cannot_be_written_is_told_and_the_run_goes_on(chat, tmp_path, capsys):
    (tmp_path / "tokens").write_text("a file")
    assert list(render_through_cache(CHATS, chat, tmp_path / "tokens")) == chat.render_set(CHATS)
    assert "the ids of this run are not kept" in capsys.readouterr().err


def test_the_entries_used_last_stay(chat, tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "MOST_ENTRIES", 3)
    keys = []
    for number in range(5):
        if number == 4:
            render_through_cache(CHATS[:3], chat, tmp_path)  # used again
        render_through_cache(CHATS[: number + 1], chat, tmp_path)
        keys.append(entry_key(CHATS[: number + 1], chat))
        time.sleep(0.02)
    assert {one.name for one in tmp_path.iterdir()} == {keys[2], keys[3], keys[4]}


def test_those_who_make_one_entry_at_once_do_not_disturb_each_other(chat, tmp_path, monkeypatch):
    def wait_for_all(source, place):
        if source not in met and str(source).endswith(".partial"):
            met.add(source)
            everyone.wait(timeout=20)
        usual(source, place)

    usual, everyone = os.rename, threading.Barrier(4)
    met: set[Path] = set()
    monkeypatch.setattr(os, "rename", wait_for_all)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: render_through_cache(CHATS, chat, tmp_path), range(4)))
    assert all(list(one) == chat.render_set(CHATS) for one in found)
    assert len(list(tmp_path.iterdir())) == 1 and len(met) == 4


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_token_cache() == tmp_path / "graft" / "tokens"
