"""What a caller gives as data, as settings name it: names as they are, rows of several kinds as rows in memory."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from configs import InputError
from finetune.conversations.messages import Conversation, Message
from finetune.files.rows_in_memory import RowsInMemory
from scratch_models.documents.json_values import kind_of

Data = str | Path | Iterable[object]
"""A file, a folder or a Hub name; or rows: dicts in any form that a file may have, conversations, a `Dataset`."""


def names_of_data(data: Data) -> str | list[str]:
    """The same, where a list of texts names several sets, each with its weight behind a colon where it has one.

    >>> names_of_data(["chats.jsonl:2", "talks.parquet:1"])
    ['chats.jsonl:2', 'talks.parquet:1']
    """
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | Path) for one in data):
        return [str(one) for one in data]
    return name_of_data(data)


def name_of_data(data: Data, setting: str = "data") -> str:
    """The name of data: as it is where it is one, else that of the rows, which it carries.

    >>> name_of_data([{"question": "1+1?", "answer": "2"}]), name_of_data("chats.jsonl")
    ('rows in memory', 'chats.jsonl')

    Raises:
        InputError: it is neither a name nor rows.

    """
    if isinstance(data, str | Path):
        return data if isinstance(data, RowsInMemory) else str(data)
    if isinstance(data, Mapping):  # a DatasetDict is one too
        found = ", ".join(map(repr, data))[:120]
        raise InputError(
            f"{setting}: found an object of {found}, expected rows: give one split, or [row] for a single row"
        )
    if hasattr(data, "iloc"):
        raise InputError(f'{setting}: found a DataFrame, expected rows: give frame.to_dict("records")')
    if not isinstance(data, Iterable):
        raise InputError(f"{setting}: found {kind_of(data)}, expected a file, a Hub name, or rows as a list of dicts")
    if hasattr(data, "with_format"):  # of `datasets`; its rows may be set to come as tensors
        plain = data.with_format(None)
        return RowsInMemory(plain if hasattr(plain, "__getitem__") else list(plain), of_table=True)
    return RowsInMemory([to_record(row) if isinstance(row, Conversation) else row for row in data])


def to_record(conversation: Conversation) -> dict[str, object]:
    """The conversation as it would stand in a file: what is read from it is the same conversation.

    >>> to_record(Conversation((Message("user", "1+1?"), Message("assistant", "2")), "x:1"))["messages"]
    [{'role': 'user', 'content': '1+1?'}, {'role': 'assistant', 'content': '2'}]
    """
    beside = {"answer": conversation.answer, "tools": conversation.tools}
    messages = [_written(message.as_written()) for message in conversation.messages]
    return {"messages": messages, **{key: value for key, value in beside.items() if value is not None}}


def _written(message: Message) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    beside = {
        "reasoning_content": message.reasoning,
        "tool_calls": calls or None,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
        "weight": None if message.weight == 1 else message.weight,
    }
    kept = {key: value for key, value in beside.items() if value is not None}
    return {"role": message.role, "content": message.content, **kept}
