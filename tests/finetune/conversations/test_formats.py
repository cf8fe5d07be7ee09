"""Conversations: every format that is read, and every bad input refused in one line that says where."""

import json
import os
import time
from collections import Counter

import pytest

from configs import InputError, MissingInput
from finetune.conversations.formats import Message, final_answer, read_conversations, to_conversation
from tests.house.repository import ROOT

GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_train.jsonl"
USER, ASSISTANT = Message("user", "1+1?"), Message("assistant", "2")
GOOD = '{"question": "1+1?", "answer": "2"}'


def _chat(*messages, **others):
    return {"messages": [{"role": role, "content": content} for role, content in messages], **others}


@pytest.fixture
def write(tmp_path):
    def write(content, name="chat.jsonl"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def _message(data):
    with pytest.raises(InputError) as error:
        read_conversations(data)
    assert "\n" not in str(error.value), "one line"
    return str(error.value)


@pytest.mark.parametrize(
    "record",
    [
        _chat(("user", "1+1?"), ("assistant", "2")),
        {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
        {"messages": None, "prompt": "1+1?", "completion": "2", "instruction": None, "conversations": None},
        {"prompt": "1+1?", "completion": "2"},
        {"prompt": [{"role": "user", "content": "1+1?"}], "completion": [{"role": "assistant", "content": "2"}]},
        {"prompt": [{"role": "user", "content": "1+1?"}], "completion": "2"},
        {"instruction": "1+1?", "input": "", "output": "2"},
        {"instruction": "1+1?", "input": None, "output": "2"},
        {"instruction": "1+1?", "output": "2"},
        {"question": "1+1?", "answer": "2"},
        {"question": "1+1?", "answer": "2", "id": 7, "tags": ["sum"]},
    ],
)
def test_every_format_gives_the_same_conversation(write, record):
    for path in (write(json.dumps(record)), write(json.dumps([record]), "chat.json")):
        [conversation] = read_conversations(path)
        assert conversation.messages == (USER, ASSISTANT)


def test_several_turns_and_a_system_message_keep_their_order_and_text():
    turns = [
        ("system", " Be brief.\n"),
        ("user", ""),
        ("assistant", "Hi."),
        ("user", "<|end|>"),
        ("assistant", "ß\x00"),
    ]
    conversation = to_conversation(_chat(*turns), "chat.jsonl:1")
    assert [(message.role, message.content) for message in conversation.messages] == turns


def test_the_input_of_an_instruction_follows_it_after_a_blank_line():
    record = {"instruction": "Translate.", "input": "Haus", "output": "house"}
    assert to_conversation(record, "alpaca.json[0]").messages[0].content == "Translate.\n\nHaus"


def test_the_checkable_answer_is_the_field_beside_messages_or_follows_the_mark_of_gsm8k():
    chat = _chat(("user", "1+1?"), ("assistant", "It is 2."), answer="2")
    assert to_conversation(chat, "p").answer == "2"
    assert to_conversation(chat | {"answer": None}, "p").answer is None
    assert to_conversation({"prompt": "1+1?", "completion": "It is 2.", "answer": "2"}, "p").answer == "2"
    assert to_conversation({"question": "1+1?", "answer": "1+1=2\n#### 2"}, "p").answer == "2"
    assert to_conversation({"question": "1+1?", "answer": "2"}, "p").answer is None
    assert final_answer("a #### 1\n#### 2,125 ") == "2,125"


@pytest.mark.skipif(not GSM8K.exists(), reason=f"no {GSM8K}")
def test_gsm8k_is_read_whole_with_its_published_answers():
    conversations = read_conversations(str(GSM8K))
    assert len(conversations) == 7473  # github.com/openai/grade-school-math
    assert conversations[0].answer == "72"
    assert conversations[0].source == f"{GSM8K}:1"
    records = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    for conversation, record in zip(conversations, records, strict=True):
        assert [message.content for message in conversation.messages] == [record["question"], record["answer"]]
        assert record["answer"].endswith(f"#### {conversation.answer}")


def test_blank_lines_a_byte_order_mark_and_carriage_returns_are_accepted_and_lines_keep_their_numbers(write):
    path = write(b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n  \n{GOOD}".encode())
    assert [conversation.source for conversation in read_conversations(path)] == [f"{path}:1", f"{path}:4"]


SYSTEM = Message("system", "Be brief.")


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]},
        {"prompt": "1+1?", "completion": "2"},
        {"instruction": "1+1?", "output": "2"},
        {"question": "1+1?", "answer": "2"},
    ],
    ids=lambda record: next(iter(record)),
)
def test_a_system_column_is_the_system_message_of_every_format(record):
    assert to_conversation({**record, "system": "Be brief."}, "p").messages == (SYSTEM, USER, ASSISTANT)
    assert to_conversation({**record, "system": ""}, "p").messages == (USER, ASSISTANT)
    with pytest.raises(InputError, match="p: system is a list, expected text"):
        to_conversation({**record, "system": ["Be brief."]}, "p")


def test_a_system_column_may_repeat_the_first_message_but_not_contradict_it():
    chat = _chat(("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"))
    assert to_conversation({**chat, "system": "Be brief."}, "p").messages == (SYSTEM, USER, ASSISTANT)
    with pytest.raises(InputError, match="p: system and the first message say two different things"):
        to_conversation({**chat, "system": "Be long."}, "p")


def test_the_history_of_an_instruction_is_earlier_turns():
    record = {"instruction": "1+1?", "output": "2", "system": "Be brief.", "history": [["Hi", "Hello"], ["0+0?", "0"]]}
    said = [message.content for message in to_conversation(record, "p").messages]
    assert said == ["Be brief.", "Hi", "Hello", "0+0?", "0", "1+1?", "2"]
    assert to_conversation({**record, "history": [], "system": None}, "p").messages == (USER, ASSISTANT)
    for history, expected in (("Hi", "history is text, expected a list of pairs"), ([["Hi"]], "history is a list")):
        with pytest.raises(InputError, match=f"p: {expected}"):
            to_conversation({**record, "history": history}, "p")
    with pytest.raises(InputError, match=r"p: history\[0\]\[1\] of the assistant is empty"):
        to_conversation({**record, "history": [["Hi", ""]]}, "p")


def test_a_file_of_two_forms_is_refused_with_the_place_of_the_first_other_one(write):
    path = write(f"{GOOD}\n{GOOD}\n{json.dumps(_chat(('user', '1+1?'), ('assistant', '2')))}\n")
    assert _message(path).startswith(f"{path}:3: holds messages, and the records before it question and answer: give")


MEANT = {  # keys that would change what is learned -> a value that asks for it
    "weight": 0.5,
    "train": False,
    "label": False,
    "tool_calls": [{"name": "f"}],
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "reasoning_content": "Hm.",
    "images": ["a.png"],
    "context": "The earth is flat.",
    "documents": ["a"],
    "loss_mask": [0, 1],
}
MADE_UP = [f"{word}_{number}" for number, word in enumerate(["mood", "notes", "weight_of", "masked", "reply"] * 6)]
FORMS = {
    "messages": _chat(("user", "1+1?"), ("assistant", "2")),
    "conversations": {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
    "prompt": {"prompt": "1+1?", "completion": "2"},
    "instruction": {"instruction": "1+1?", "output": "2"},
    "question": {"question": "1+1?", "answer": "2"},
}


@pytest.mark.parametrize("form", FORMS)
def test_no_key_beside_a_form_is_dropped_in_silence(write, form):
    for key, value in MEANT.items():
        assert key in _message(write(json.dumps({**FORMS[form], key: value})))
    unread: Counter[str] = Counter()
    beside = {key: 1 for key in (*MADE_UP, "name", "history_of", "id", "source")}
    [conversation] = read_conversations(write(json.dumps({**FORMS[form], **beside, "notes": None})), unread)
    assert conversation.messages == (USER, ASSISTANT)
    assert unread == beside


@pytest.mark.parametrize("label", ["False", False, 0.0, "0"])
def test_a_label_is_read_as_a_file_of_text_cells_writes_it(label):
    with pytest.raises(InputError, match="so that completion is not to be learned"):
        to_conversation({"prompt": "Hi", "completion": "Go away", "label": label}, "p")
    assert to_conversation({"question": "1+1?", "answer": "2", "label": 0}, "p").messages == (USER, ASSISTANT)


@pytest.mark.parametrize("label", [False, 0])
def test_a_completion_labelled_as_a_bad_one_is_refused(label):
    record = {"prompt": "Hi", "completion": "Go away", "label": label}
    with pytest.raises(InputError, match=r"p: label is (false|0), so that completion is not to be learned \(KTO\)"):
        to_conversation(record, "p")
    assert len(to_conversation({**record, "label": True}, "p").messages) == 2


@pytest.mark.parametrize("roles", ["uua", "aua", "uaa", "suaua", "uau", "uauu", "a"])
def test_roles_in_an_odd_order_are_read_as_they_are(roles):
    """smol-course#260."""
    names = {"u": "user", "a": "assistant", "s": "system"}
    read = to_conversation(_chat(*((names[role], str(place)) for place, role in enumerate(roles))), "p")
    assert [(message.role[0], message.content) for message in read.messages] == [
        (r, str(n)) for n, r in enumerate(roles)
    ]


BAD_LINES = {
    '{"question": "a", answer: "b"}': ":2: not JSON (column 19: Expecting property name enclosed in double quotes)",
    '{"question": "a", "answer"': ":2: not JSON (column 27:",
    "question,answer": ":2: not JSON (column 1:",
    '["a", "b"]': ":2: found a list, expected a JSON object",
    "null": ":2: found null, expected a JSON object",
    '{"messages": [], "messages": []}': ":2: not usable JSON (key 'messages' appears twice)",
    '{"text": "a", "mesages": []}': ":2: keys are 'text', 'mesages', expected messages; or conversations; or "
    "prompt and completion; or instruction and output; or question and answer",
    "{}": ":2: keys are nothing, expected messages",
    '{"messages": "a"}': ":2: messages is text, expected a list",
    '{"messages": ["a"]}': ":2: messages[0] is text, expected",
    '{"messages": [{"from": "human", "value": "a"}]}': ":2: messages[0] is an object with 'from', 'value', expected",
    json.dumps(_chat(("user", None), ("assistant", "b"))): ":2: messages[0].content is null, expected text",
    json.dumps(_chat(("user", "a"), ("assistant", 7))): ":2: messages[1].content is a number, expected text",
    json.dumps(_chat(("user", [{"type": "text"}]))): ":2: messages[0].content[0] is 'type' of type 'text', expected",
    json.dumps(_chat(("sytem", "a"))): ":2: messages[0].role is 'sytem', expected one of system, user, assistant, tool",
    json.dumps(_chat((["user"], "a"))): ":2: messages[0].role is a list, expected one of",
    json.dumps(_chat()): ":2: no assistant message (found no message), nothing to learn from",
    json.dumps(_chat(("system", "a"), ("user", "b"))): ":2: no assistant message (found system, user), nothing",
    json.dumps(_chat(("user", "a"), ("assistant", " \n"))): ":2: messages[1].content of the assistant is empty",
    json.dumps(
        _chat(("user", "a"), ("system", "b"), ("assistant", "c"))
    ): ":2: message 2 of 3 is the system's, which can",
    json.dumps(_chat(("system", "a"), ("system", "b"), ("assistant", "c"))): ":2: message 2 of 3 is the system's",
    '{"prompt": "a", "completion": null}': ":2: completion is null, expected text",
    '{"prompt": [{"role": "assistant", "content": "a"}], "completion": []}': ":2: completion has no assistant message",
    '{"instruction": "a", "input": 1, "output": "b"}': ":2: input is a number, expected text",
    '{"question": "a", "answer": ""}': ":2: answer of the assistant is empty",
    '{"prompt": "a", "completion": "b", "answer": 2}': ":2: answer is a number, expected text",
    '{"question": "\\ud800", "answer": "b"}': ":2: question holds half a surrogate pair (\\ud800) at character 0",
    '{"messages": "[1"}': ":2: messages is text, expected a list of messages",  # axolotl PR#3739
    '{"question": "a", "answer": "b", "images": ["a.png"]}': ":2: has 'images', which is not read (only text is",
    '{"question": "a", "answer": "b", "functions": [{"name": "f"}]}': ":2: has 'functions', which is not read (write",
    "[" * 100_000: ":2: nested too deep to read",
    f'{{"question": {"9" * 5000}, "answer": "b"}}': ":2: not usable JSON (Exceeds the limit",
}


@pytest.mark.parametrize(("line", "expected"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_line_is_refused_with_its_number_and_field(write, line, expected):
    path = write(f"{GOOD}\n{line}\n{GOOD}\n")
    assert _message(path).startswith(path + expected)


def test_the_first_bad_line_is_told_and_the_others_are_counted(write):
    path = write(f"{GOOD}\n[]\n{GOOD}\n{{}}\nnull\n")
    assert _message(path).startswith(f"{path}:2: found a list")
    assert _message(path).endswith("(and 2 more)")


def test_bytes_that_are_no_utf8_are_refused_with_line_and_offset(write):
    path = write(f"{GOOD}\n".encode() + b'{"question": "\xff"}')
    assert _message(path).startswith(f"{path}:2: byte 0xff at offset 14 is not UTF-8")


def test_an_endless_line_is_refused_before_it_is_read_to_its_end(write):
    path = write(f"{GOOD}\n")
    os.truncate(path, 2**31)  # sparse: two GiB of NUL after the first line
    assert _message(path).startswith(f"{path}:2: line is longer than 16 MiB")


@pytest.mark.parametrize("name", ["chat.jsonl", "chat.json"])
@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_an_empty_file_is_refused(write, name, content):
    assert "found 0 conversations" in _message(write(content, name))


def test_a_json_file_names_records_by_index_and_its_own_faults_by_line(write):
    assert _message(path := write(f"[{GOOD}, 7]", "a.json")).startswith(f"{path}[1]: found a number")
    assert _message(path := write(GOOD, "b.json")).startswith(f"{path}: found an object, expected a list of objects")
    assert _message(path := write(f"{GOOD}\n{GOOD}", "c.json")).startswith(
        f"{path}: not JSON (line 2 column 1: Extra data)"
    )


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"PAR1", "Parquet"), (b"PK\x03\x04", "zip"), (b"\x1f\x8b\x08", "gzip"), (b"\xff\xfe{\x00", "UTF-16")],
)
def test_another_kind_of_file_that_is_called_jsonl_is_named(write, start, kind):
    assert f"looks like a {kind}".replace("a UTF", "UTF") in _message(write(start + b"\x00" * 20))


def test_what_is_no_regular_file_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "circle.jsonl").symlink_to(tmp_path / "circle.jsonl")
    assert "is a device or a pipe" in _message(str(tmp_path / "pipe.jsonl"))
    assert "is a device or a pipe" in _message("/dev/zero")
    assert "is a folder without a data file" in _message(str(tmp_path))
    assert "cannot be looked up" in _message(str(tmp_path / "circle.jsonl"))
    assert "cannot be looked up" in _message("a" * 5000 + ".jsonl")
    assert "cannot be looked up" in _message("a\x00.jsonl")


def test_a_missing_file_is_a_missing_input_and_another_suffix_is_refused(tmp_path, write):
    with pytest.raises(MissingInput, match=r"none\.jsonl: no such file, expected a \.jsonl"):
        read_conversations(str(tmp_path / "none.jsonl"))
    with pytest.raises(MissingInput, match=r"data/none\.csv: no such file"):
        read_conversations("data/none.csv")
    assert "ends in .txt, expected .jsonl (one" in _message(write(GOOD, "chat.txt"))


def test_a_hub_name_that_cannot_be_reached_soon_says_that_a_file_can_be_passed(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    start = time.monotonic()
    message = _message("nobody/nothing:main")
    assert time.monotonic() - start < 5, "one question to the Hub, not half a minute of retries"
    assert message.startswith("nobody/nothing: no such file, and not loaded from the Hub (")
    assert message.endswith("a file can be passed instead")


def test_rows_of_a_data_set_of_the_hub_library_are_read_like_lines():
    import datasets

    rows = datasets.Dataset.from_list([_chat(("user", "1+1?"), ("assistant", "2"), answer=None)])
    [conversation] = [to_conversation(row, "nobody/nothing[0]") for row in rows]
    assert conversation.messages == (USER, ASSISTANT)
    assert conversation.answer is None
