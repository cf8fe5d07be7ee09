"""Conversations as every part of the project knows them, however they were written down."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class ToolCall:
    """A function that an assistant asks for."""

    name: str
    arguments: str
    """JSON text of an object."""
    id: str | None = None


@dataclass(frozen=True)
class Message:
    """What one role says in one turn."""

    role: Role
    content: str
    weight: float = 1.0
    """How much an assistant's message counts in the loss, from 0 (read, not learned) to 1; the others' never do."""
    reasoning: str | None = None
    """What an assistant thought first."""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    """Of a tool's message, which tool."""
    tool_call_id: str | None = None
    """Of a tool's message, which call it answers."""
    written: str | None = None
    """The content letter by letter, where the reasoning stood at its beginning and was taken out."""

    @property
    def learned(self) -> bool:
        """Whether an assistant's message is learned at all, or only read."""
        return self.weight > 0

    def as_written(self) -> "Message":
        """The message with reasoning that stood in the content put back there, letter by letter.

        >>> Message("assistant", "4", reasoning="2+2=4", written="<think>2+2=4</think>4").as_written().content
        '<think>2+2=4</think>4'
        """
        if self.written is None:
            return self
        return replace(self, content=self.written, reasoning=None, written=None)

    def said(self) -> str:
        """All texts of the message: reasoning, content, and what it calls.

        >>> Message("assistant", "I add.", tool_calls=(ToolCall("add", '{"a": 1}'),)).said()
        'I add.add{"a": 1}'
        """
        calls = (text for call in self.tool_calls for text in (call.name, call.arguments))
        return "".join((self.reasoning or "", self.content, *calls))

    def beside_content(self) -> str:
        """All but role and content as JSON, the empty text where there is nothing: it belongs into every hash.

        What is only read is written as it was before there were weights: its hash remains.

        >>> [Message("assistant", "2", weight=weight).beside_content() for weight in (1, 0.5, 0)]
        ['', '{"weight": 0.5}', '{"learned": false}']
        """
        usual = Message(self.role, self.content)
        if self == usual:
            return ""
        unsaid = asdict(usual)
        said = {name: value for name, value in asdict(self).items() if value != unsaid[name]}
        if not self.learned:
            said = {"learned": False, **said}
            del said["weight"]
        return json.dumps(said)


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the place they were read from, and the one answer that can be checked, if there is one."""

    messages: tuple[Message, ...]
    source: str
    answer: str | None = None
    tools: str | None = None
    """JSON text of the list of tools that the assistant may call."""


Need = Literal["tools", "tool_calls", "reasoning", "tool role"]


def needs(conversation: Conversation) -> set[Need]:
    """What a chat format must be able to carry beside text by system, user and assistant.

    >>> sorted(needs(Conversation((Message("assistant", "4", reasoning="2+2=4"),), "x:1", tools="[]")))
    ['reasoning', 'tools']
    """
    found: set[Need] = set() if conversation.tools is None else {"tools"}
    return found | needs_of(conversation.messages)


def needs_of(messages: Sequence[Message]) -> set[Need]:
    """The same of messages alone."""
    found: set[Need] = set()
    for message in messages:
        if message.tool_calls:
            found.add("tool_calls")
        if message.reasoning is not None:
            found.add("reasoning")
        if message.role == "tool":
            found.add("tool role")
    return found


def until_last_reply(conversation: Conversation) -> Conversation:
    """The conversation up to the last reply that is learned; what follows is answered by nobody, or not to be learned.

    >>> asked = Conversation((Message("user", "1+1?"), Message("assistant", "2"), Message("user", "Thanks")), "x:1")
    >>> len(until_last_reply(asked).messages)
    2
    """
    messages = conversation.messages
    replies = [place for place, message in enumerate(messages) if message.role == "assistant"]
    learned = [place for place in replies if messages[place].learned]
    end = max(learned or replies) + 1
    return conversation if end == len(conversation.messages) else replace(conversation, messages=messages[:end])


def asked_of(conversation: Conversation) -> tuple[Message, ...]:
    """What was said before the first reply; a greeting before the first question is none. It ends with a reply."""
    roles = [message.role for message in conversation.messages]
    asked = roles.index("user") if "user" in roles else 0
    return conversation.messages[: roles.index("assistant", asked)]


def hash_asked(messages: Sequence[Message], *, style: bool = True) -> bytes:
    """The sha256 of what was said before a reply; how much it is learned makes it no other question.

    Without `style`, capitals, spaces, and punctuation at the ends of a message make it no other either.

    >>> asked, again = ([Message("user", text)] for text in ("How many?", "How  MANY"))
    >>> hash_asked(asked) == hash_asked(again), hash_asked(asked, style=False) == hash_asked(again, style=False)
    (False, True)
    """
    asked = (one if one.weight == 1 else replace(one, weight=1.0) for one in messages)
    texts = (_as_text(one) if style else _as_text(one, _without_style(one.content)) for one in asked)
    return hashlib.sha256("\0".join(texts).encode()).digest()


def hash_messages(groups: Iterable[Sequence[Message]], tools: Iterable[str | None] = ()) -> str:
    """The sha256 of some groups of messages in their order, with the `tools` of each."""
    digest = hashlib.sha256()
    for messages in groups:
        for message in messages:
            digest.update(f"{_as_text(message)}\0".encode())
        digest.update(b"\0")
    for place, defined in enumerate(tools):
        digest.update(b"" if defined is None else f"tools\0{place}\0{defined}\0".encode())
    return digest.hexdigest()


def hash_conversation(conversation: Conversation) -> bytes:
    """The sha256 of all that is said in a conversation."""
    return bytes.fromhex(hash_messages([conversation.messages], [conversation.tools]))


def _without_style(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?")


def _as_text(message: Message, content: str | None = None) -> str:
    """A message as one text, or with another content; what held nothing but content once reads as it did then."""
    written = message.as_written()
    beside = written.beside_content()
    said = written.content if content is None else content
    return f"{written.role}\0{said}" + (f"\0{beside}" if beside else "")


def dump_conversation(conversation: Conversation) -> bytes:
    """The conversation as JSON without names, which `load_conversation` reads.

    >>> asked = Conversation((Message("user", "1+1?"), Message("assistant", "2", weight=0.5)), "x:1", answer="2")
    >>> load_conversation(dump_conversation(asked)) == asked
    True
    """
    messages = [
        (one.role, one.content, one.weight, one.reasoning, calls, one.name, one.tool_call_id, one.written)
        if one.tool_calls or one.name or one.tool_call_id or one.reasoning is not None or one.written is not None
        else (one.role, one.content, one.weight)
        for one in conversation.messages
        for calls in ([(call.name, call.arguments, call.id) for call in one.tool_calls],)
    ]
    return json.dumps((messages, conversation.source, conversation.answer, conversation.tools)).encode()


def load_conversation(content: bytes) -> Conversation:
    """The conversation that `dump_conversation` wrote."""
    messages, source, answer, tools = json.loads(content)
    read = []
    for role, said, weight, *others in messages:
        if others:
            reasoning, calls, *named = others
            read.append(Message(role, said, weight, reasoning, tuple(ToolCall(*call) for call in calls), *named))
        else:
            read.append(Message(role, said, weight))
    return Conversation(tuple(read), source, answer, tools)
