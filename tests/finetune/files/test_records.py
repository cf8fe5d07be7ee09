"""The same conversations in every kind of file give the same ids and masks; what is no such file is one line."""

import gzip
import json
import re
import shutil

import pyarrow
import pyarrow.parquet
import pytest

from configs import InputError
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import read_conversations
from finetune.conversations.pairs import read_pairs
from finetune.files import json_files
from scratch_models.documents import compressed
from tests.finetune.files.written_files import WRITERS, as_lines
from tests.finetune.tiny_models import questions

HARD = [('What is 1+1?\nSay "two".', "It is, 2; é\r\n"), ("A,B", '[{"a": 1}]')]
ASKED = [*questions(40), *HARD]
RECORDS = [{"question": asked, "answer": answer} for asked, answer in ASKED]
CHATS = [
    {
        "messages": [
            *([{"role": "system", "content": "Be brief."}] if number % 3 == 0 else []),
            {"role": "user", "content": asked},
            {"role": "assistant", "content": "No.", **({"weight": 0} if number % 2 else {})},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": answer, **({"reasoning_content": "Hm."} if number % 5 == 0 else {})},
        ]
    }
    for number, (asked, answer) in enumerate(ASKED)
]


def _refusal(path):
    with pytest.raises(InputError) as error:
        read_conversations(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("records", [RECORDS, CHATS], ids=["questions", "messages with columns that are null"])
@pytest.mark.parametrize("name", WRITERS)
def test_the_same_conversations_in_every_kind_of_file_give_the_same_ids_and_masks(
    chat_tokenizer, tmp_path, name, records
):
    WRITERS["chats.jsonl"](tmp_path / "lines.jsonl", records)
    WRITERS[name](tmp_path / name, records)
    chat = GraftFormat(chat_tokenizer)
    expected = read_conversations(str(tmp_path / "lines.jsonl"))
    found = read_conversations(str(tmp_path / name))
    assert [one.messages for one in found] == [one.messages for one in expected]
    plain = [one for one in range(len(records)) if expected[one].messages[-1].reasoning is None]
    assert chat.render_set([found[one] for one in plain]) == chat.render_set([expected[one] for one in plain])


@pytest.mark.parametrize("name", WRITERS)
def test_pairs_are_read_from_the_same_files(tmp_path, name):
    pairs = [{"prompt": asked, "chosen": answer, "rejected": "No."} for asked, answer in ASKED[:30]]
    WRITERS[name](tmp_path / name, pairs)
    assert [pair.chosen[0].content for pair in read_pairs(str(tmp_path / name))] == [pair["chosen"] for pair in pairs]


def test_a_row_is_named_by_its_place_and_a_row_of_csv_by_the_line_on_which_it_begins(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('question,answer\n"1\n+1?",2\n3?,3\n', encoding="utf-8")
    assert [one.source for one in read_conversations(str(path))] == [f"{path}:2", f"{path}:4"]
    WRITERS["chats.parquet"](tmp_path / "a.parquet", RECORDS)
    assert read_conversations(str(tmp_path / "a.parquet"))[41].source == f"{tmp_path / 'a.parquet'}[41]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('question,answer\n1?,2\n"3?,4\n5?,6\n', ":3: the row that begins here is no CSV (unexpected end of data)"),
        ('question,answer\n1?,"2"x\n', ":2: the row that begins here is no CSV ("),
        ("question,answer\n1?,2,3\n", ":2: 3 cells, expected 2 as in the first line (question, answer)"),
        ("question,question\n1?,2\n", ":1: the column 'question' appears twice"),
        ("question;answer\n1?;2\n", ":2: keys are 'question;answer', expected"),
        ("messages\nhello\n", ":2, messages: not JSON (column 1"),
        ('messages\n"{""a"": 1}"\n', ":2: messages is an object, expected a list as JSON text"),
        (b"question,answer\n\xff,2\n", ": byte 0xff behind line"),
        ("question,answer\n", ": found 0 conversations"),
        ("", ": found 0 conversations"),
    ],
)
def test_csv_that_is_none_is_refused_with_the_line(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert _refusal(path).startswith(f"{path}{said}")


def test_a_table_without_the_columns_of_a_form_names_those_there_are(tmp_path):
    WRITERS["chats.parquet"](tmp_path / "a.parquet", [{"text": "a", "stars": 3}] * 5)
    assert "a.parquet[0]: keys are 'text', 'stars', expected messages; or" in _refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["chats.parquet", "chats.arrow", "stream.arrow", "chats.jsonl.gz", "chats.jsonl.zst"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_file_is_one_line(tmp_path, name, damage):
    path = tmp_path / name
    WRITERS[name](path, RECORDS)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": as_lines(RECORDS), "empty": b""}[damage])
    assert _refusal(path).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.csv.gz", "bomb.json.gz"])
def test_a_file_that_unpacks_without_end_is_refused_with_the_limit(tmp_path, monkeypatch, name):
    monkeypatch.setattr(compressed, "ALWAYS_ALLOWED", 2**20)
    line = {"bomb.jsonl.gz": b" " * 99 + b"\n", "bomb.csv.gz": b"question,answer\n", "bomb.json.gz": b" "}[name]
    (tmp_path / name).write_bytes(gzip.compress(line * (2**22 // len(line))))
    assert re.search(
        r"bomb\S+: unpacks to more than [12] MiB, which is the limit for a file of", _refusal(tmp_path / name)
    )


def test_a_file_of_nothing_but_blank_lines_and_one_of_mistakes_are_not_read_to_their_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAXIMUM_LINE_BYTES", 100)
    (tmp_path / "blank.jsonl.gz").write_bytes(gzip.compress(as_lines(RECORDS[:2]) + b"\n" * 2**20))
    assert "blank.jsonl.gz:103: more than 0 MiB of blank lines" in _refusal(tmp_path / "blank.jsonl.gz")
    monkeypatch.setattr("finetune.files.records.MOST_COUNTED", 7)
    (tmp_path / "bad.jsonl").write_bytes(b"{}\n" * 100)
    assert _refusal(tmp_path / "bad.jsonl").endswith("(and 7 more or above)")


def test_a_folder_without_data_is_refused_and_one_with_several_splits_asks_which(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "chats.jsonl").write_bytes(as_lines(RECORDS))
    assert "plain: is a folder without a split 'dev', its files name no split" in _refusal(f"{tmp_path / 'plain'}@dev")
    shutil.rmtree(tmp_path / "plain")
    assert _refusal(tmp_path).startswith(
        f"{tmp_path}: is a folder without a data file, expected files in .jsonl, .json"
    )
    for split, records in (("train", RECORDS[:20]), ("test", RECORDS[20:])):
        (tmp_path / f"{split}.jsonl").write_bytes(as_lines(records))
    assert f"is a folder with files of test, train: name one split, as {tmp_path}@train" in _refusal(tmp_path)
    assert len(read_conversations(f"{tmp_path}@train")) == 20
    assert "without a split 'dev', there are test, train" in _refusal(f"{tmp_path}@dev")


def test_objects_inside_a_row_lose_what_arrow_filled_with_null(tmp_path):
    """PrimeIntellect-ai/prime-rl PR#3494; a tool's parameters would gain the names of every other tool's."""
    tools = [[{"name": name, "parameters": {"properties": {name: {"type": "string"}}}}] for name in ("f", "g")]
    records = [{**chat, "tools": one} for chat, one in zip(CHATS[1:3], tools, strict=True)]
    table = pyarrow.Table.from_pylist(records)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    read = [json.loads(one.tools or "") for one in read_conversations(str(tmp_path / "a.parquet"))]
    assert read == tools
