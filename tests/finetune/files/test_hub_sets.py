"""A data set by its name on the Hub: from the cache without a network, and with the splits there are."""

import time

import datasets
import pytest

from configs import InputError
from finetune.conversations.formats import read_conversations
from tests.finetune.files.written_files import as_lines
from tests.finetune.tiny_models import questions
from tests.said_lines import without_progress


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A data set of two splits in the cache of `datasets`, and no Hub."""
    for split, number in (("train", 30), ("test", 5)):
        records = [{"question": asked, "answer": answer} for asked, answer in questions(number)]
        (tmp_path / f"{split}.jsonl").write_bytes(as_lines(records))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))
    [made] = (tmp_path / "cache" / "json").glob("*/*/*/")
    kept = tmp_path / "cache" / "me___chats" / "default" / "0.0.0" / "a1"
    kept.parent.mkdir(parents=True)
    made.rename(kept)
    for file in kept.glob("*.arrow"):
        file.rename(kept / file.name.replace("json-", "chats-"))
    info = kept / "dataset_info.json"
    info.write_text(info.read_text().replace(made.parts[-3], "default"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")  # nobody listens there


def test_a_cached_set_is_read_within_5_seconds_where_there_is_no_network(cached, capsys):
    begun = time.monotonic()
    read = read_conversations("me/chats")
    assert time.monotonic() - begun < 5
    assert [one.messages[0].content for one in read] == [asked for asked, _ in questions(30)]
    assert read[3].source == "me/chats[3]"
    assert datasets.config.HF_HUB_OFFLINE is False, "the Hub is asked again next time"
    [said] = [line for line in without_progress(capsys.readouterr().err).splitlines() if line]
    assert said.startswith("me/chats: read from the cache, the Hub is not reached (")


def test_configuration_and_split_stand_behind_the_name(cached):
    assert len(read_conversations("me/chats:default@test")) == 5
    assert len(read_conversations("me/chats@train[:50%]")) == 15


def test_a_split_that_is_not_there_names_those_there_are(cached, capsys):
    with pytest.raises(
        InputError, match=r"me/chats: Unknown split \"dev\". Should be one of \['train', 'test'\]. Name"
    ):
        read_conversations("me/chats@dev")
    assert not without_progress(capsys.readouterr().err).strip(), "the error is the one line"
