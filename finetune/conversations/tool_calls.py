"""Tools that an assistant may call, and its calls, as OpenAI's API and Hugging Face's chat templates write them.

A tool is ``{"type": "function", "function": {"name", "description", "parameters"}}``, or what stands in ``function``
alone; a call is ``{"id", "type": "function", "function": {"name", "arguments"}}``, or again the inner object alone.
Arguments are an object or its JSON text.
"""

import json
from collections.abc import Mapping

from configs import InputError
from finetune.conversations.messages import ToolCall
from scratch_models.documents.json_values import kind_of, read_text
from tokenizer_ext.pages.shortened import shorten

CALL_KEYS = ("id", "type", "function", "name", "arguments")


def read_tools(value: object, place: str, field: str = "tools") -> str | None:
    """The JSON text of a list of tools, given as a list or as JSON text; None where there is none.

    >>> read_tools('[{"name": "add"}]', "chat.jsonl:1")
    '[{"name": "add"}]'

    Raises:
        InputError: it is no list of tools; it begins with `place`.

    """
    tools = _parse(value, place, field) if isinstance(value, str) and value.strip() else value
    if tools is None or tools in ("", []):
        return None
    if not isinstance(tools, list):
        raise InputError(f"{place}: {field} is {kind_of(tools)}, expected a list of tools or its JSON text")
    for number, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InputError(
                f"{place}: {field}[{number}] is {shorten(repr(tool), 80)}, expected a tool: "
                '{"type": "function", "function": {"name": ..., "parameters": ...}}'
            )
    return _dump(tools, place, field)


def read_tool_calls(value: object, place: str, field: str) -> tuple[ToolCall, ...]:
    """The calls of one message.

    >>> read_tool_calls([{"function": {"name": "add", "arguments": {"a": 1}}}], "chat.jsonl:1", "tool_calls")
    (ToolCall(name='add', arguments='{"a": 1}', id=None),)

    Raises:
        InputError: one cannot be used; it begins with `place`.

    """
    if not isinstance(value, list):
        raise InputError(f"{place}: {field} is {kind_of(value)}, expected a list of calls")
    return tuple(_read_call(call, place, f"{field}[{number}]") for number, call in enumerate(value))


def _read_call(value: object, place: str, field: str) -> ToolCall:
    call = {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else {}
    function = call.get("function", {key: one for key, one in call.items() if key in ("name", "arguments")})
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or call.get("type", "function") != "function":
        raise InputError(
            f"{place}: {field} is {shorten(repr(value), 80)}, expected a call of a function: "
            '{"type": "function", "function": {"name": ..., "arguments": ...}}'
        )
    _refuse_others(call, CALL_KEYS if "function" not in call else CALL_KEYS[:3], place, field)
    _refuse_others(function, CALL_KEYS[3:], place, f"{field}.function")
    id_ = None if call.get("id") is None else read_text(call["id"], place, f"{field}.id")
    arguments = _read_arguments(function.get("arguments"), place, f"{field}.arguments")
    return ToolCall(read_text(name, place, f"{field}.name"), arguments, id_)


def _read_arguments(value: object, place: str, field: str) -> str:
    """The text as it is written where it is text: its spaces are learned as they stand there."""
    if value is None or value == "":
        return "{}"
    arguments = _parse(value, place, field) if isinstance(value, str) else value
    if not isinstance(arguments, dict):
        raise InputError(f"{place}: {field} is {kind_of(arguments)}, expected an object or its JSON text")
    return read_text(value, place, field) if isinstance(value, str) else _dump(value, place, field)


def _refuse_others(found: Mapping[str, object], known: tuple[str, ...], place: str, field: str) -> None:
    for key, value in found.items():
        if key not in known and value is not None:
            raise InputError(f"{place}: {field} has {key!r}, which is not read, expected {', '.join(known)}")


def _parse(text: str, place: str, field: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise InputError(f"{place}: {field} is text that is not JSON ({reason})") from None


def _dump(value: object, place: str, field: str) -> str:
    return read_text(json.dumps(value, ensure_ascii=False), place, field)
