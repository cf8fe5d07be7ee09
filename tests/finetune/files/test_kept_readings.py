"""What was read is kept: found again for the same files alone, equal to it, and read anew where it is hurt."""

import json
import os
import shutil

import pytest

from configs import InputError
from finetune.conversations import splits as splits_module
from finetune.conversations.reading import Learn
from finetune.conversations.splits import read_conversation_splits
from finetune.files import kept_readings
from tests.finetune.tiny_models import questions

ROLES = ("user", "assistant")
MOOD = {"mood": "so"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graft" / "readings"


@pytest.fixture
def readings(monkeypatch):
    """How often files were read."""
    read = []
    usual = splits_module.Reading

    def count(*given):
        read.append(given)
        return usual(*given)

    monkeypatch.setattr(splits_module, "Reading", count)
    return read


def _records(first, last):
    said = [
        {"role": "user", "content": "You?"},
        {"role": "assistant", "content": "I.", "weight": 0.5, "reasoning_content": "Who?"},
    ]
    return [
        {
            "messages": [*said, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
            "mood": "so",
        }
        for asked, answer in list(questions(400))[first:last]
    ]


def _write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def _same(left, right):
    parts = ("training", "held_out")
    assert all(list(getattr(left, part)) == list(getattr(right, part)) for part in parts)
    assert (left.left_out, left.odd, left.sha256()) == (right.left_out, right.odd, right.sha256())
    assert (left.mixture is None) == (right.mixture is None)
    if left.mixture is not None:
        assert left.mixture.sets == right.mixture.sets
        assert left.mixture.set_of.tolist() == right.mixture.set_of.tolist()


def test_a_second_reading_reads_nothing_and_gives_the_same(tmp_path, readings):
    distinct = [{"messages": record["messages"][2:], **MOOD} for record in _records(0, 200)]
    path = _write(tmp_path / "a.jsonl", [*distinct, *_records(200, 201)])
    first = read_conversation_splits(path)
    assert first.left_out["values of the key 'mood', which is not read"] == 201
    _same(first, read_conversation_splits(path))
    assert len(readings) == 1


def test_weighted_sets_and_given_ones_are_kept_each_for_itself(tmp_path, readings):
    one, two = (_write(tmp_path / f"{at}.jsonl", _flat(at, at + 100)) for at in (0, 200))
    three = _write(tmp_path / "held.jsonl", _flat(300, 330))
    choices: list[tuple[list[str], str | None, Learn]] = [
        ([one, f"{two}:3"], None, "all"),
        ([one, two], None, "all"),
        ([one], three, "all"),
        ([one], None, "last"),
    ]
    fresh = [read_conversation_splits(data, held_out, learn) for data, held_out, learn in choices]
    made = len(readings)
    for (data, held_out, learn), expected in zip(choices, fresh, strict=True):
        _same(read_conversation_splits(data, held_out, learn), expected)
    assert len(readings) == made == 5


def _flat(first, last):
    return [{"question": asked, "answer": answer} for asked, answer in list(questions(400))[first:last]]


def test_another_content_name_or_code_is_read_anew(tmp_path, readings, monkeypatch):
    path = _write(tmp_path / "a.jsonl", _flat(0, 60))
    stamp = os.stat(path)
    read_conversation_splits(path)
    _write(tmp_path / "a.jsonl", [*_flat(0, 59), *_flat(70, 71)])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # whatever the clock says
    sources = [one.messages[0].content for one in read_conversation_splits(path).training]
    assert len(readings) == 2 and list(questions(71))[70][0] in sources
    moved = shutil.copy(path, tmp_path / "b.jsonl")
    assert all(one.source.startswith(str(moved)) for one in read_conversation_splits(str(moved)).training)
    monkeypatch.setattr(kept_readings, "_hash_once", lambda code: "other code")
    read_conversation_splits(path)
    assert len(readings) == 4


def _cut(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_cut, os.remove, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["facts.json", "training.items", "held_out.items", "training.ends"])
def test_an_entry_that_is_not_whole_is_made_again(tmp_path, cache, readings, damage, name):
    path = _write(tmp_path / "a.jsonl", _flat(0, 60))
    expected = read_conversation_splits(path)
    damage(next(cache.glob(f"*/{name}")))
    _same(read_conversation_splits(path), expected)
    assert len(readings) == 2
    _same(read_conversation_splits(path), expected)
    assert len(readings) == 2


def test_what_is_refused_is_refused_again_and_nothing_is_kept(tmp_path, cache):
    path = _write(tmp_path / "a.jsonl", [*_flat(0, 60), {"question": 7}])
    for _ in range(2):
        with pytest.raises(InputError, match=r"a\.jsonl:61"):
            read_conversation_splits(path)
    assert not cache.exists() or not list(cache.iterdir())


def test_only_so_many_entries_stay_the_newest_of_them(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(kept_readings, "MOST_ENTRIES", 2)
    paths = [_write(tmp_path / f"{at}.jsonl", _flat(at, at + 60)) for at in (0, 70, 140)]
    for path in paths:
        read_conversation_splits(path)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(kept_readings, "MOST_BYTES", 0)
    read_conversation_splits(_write(tmp_path / "last.jsonl", _flat(210, 270)))
    assert len(list(cache.iterdir())) == 1
