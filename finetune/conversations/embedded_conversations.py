"""Questions about functions and classes, with answers taken from their signatures and docstrings.

Two kinds. A *checkable* question carries the signature that answers it and has one answer, which stands there
literally: a default, a type, a return type. The others ask what a function does; its docstring's first sentence
answers. Every choice is a function of the document's name alone, so the same documents always give the same
conversations.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune.conversations.formats import Conversation, Message
from scratch_models.corpus.documentation import Document

LONGEST_SIGNATURE_CHARACTERS = 300
LONGEST_ANSWER_CHARACTERS = 40
SENTENCE_CHARACTERS = range(20, 121)


@dataclass(frozen=True)
class Fact:
    """Something that a signature states."""

    question: str
    answer: str


def make_conversations(documents: Sequence[Document]) -> list[Conversation]:
    """At most one checkable question a document and one that asks what it does.

    >>> document = Document("a.mean", "a", "function", "(x, dim=0)", "Returns the mean of all elements.")
    >>> [conversation.messages[-1].content for conversation in make_conversations([document])]
    ['Returns the mean of all elements.', '0']
    """
    made = []
    for document in documents:
        facts = list(read_facts(document))
        if facts:
            made.append(_ask_fact(document, facts[_pick(document.name, len(facts))]))
        sentence = first_sentence(document.docstring)
        if sentence and document.kind != "module":
            made.append(_ask_purpose(document, sentence))
    return sorted(made, key=lambda conversation: _pick(conversation.source, 2**64))  # all kinds mixed


def keep_half_checkable(conversations: Sequence[Conversation]) -> list[Conversation]:
    """The conversations without so many of those that cannot be checked that these would be more than half."""
    describing = [conversation for conversation in conversations if conversation.answer is None]
    describing.sort(key=lambda conversation: _pick(conversation.source, 2**32))
    kept = {conversation.source for conversation in describing[: len(conversations) - len(describing)]}
    return [one for one in conversations if one.answer is not None or one.source in kept]


def read_facts(document: Document) -> Iterator[Fact]:
    """What the signature states in so many words, if these are few: defaults, types, the return type.

    >>> [fact.answer for fact in read_facts(Document("m.f", "m", "function", "(x: int, y=2.5) -> str", ""))]
    ['int', '2.5', 'str']
    """
    function = _parse(document.signature)
    if function is None or len(document.signature) > LONGEST_SIGNATURE_CHARACTERS:
        return
    stated = [fact for fact in _all_facts(function, short_name(document)) if fact.answer in document.signature]
    yield from (fact for fact in stated if len(fact.answer) <= LONGEST_ANSWER_CHARACTERS)


def short_name(document: Document) -> str:
    """The name as a reader would say it: the function, or class and method.

    >>> short_name(Document("torch.nn.modules.linear.Linear.forward", "torch", "function", "", ""))
    'Linear.forward'
    """
    *_, owner, last = document.name.split(".")
    return f"{owner}.{last}" if owner[:1].isupper() else last


def first_sentence(docstring: str) -> str | None:
    r"""The first sentence of a docstring's first paragraph on one line, or None where it is no sentence of fair length.

    >>> first_sentence("Returns the sum\nof all elements. See also mean.")
    'Returns the sum of all elements.'
    """
    paragraph = " ".join(docstring.split("\n\n", maxsplit=1)[0].split())
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z`*:(])", paragraph, maxsplit=1)[0]
    is_prose = sentence[:1].isalpha() and sentence.endswith(".") and "::" not in sentence and ">>>" not in sentence
    return sentence if is_prose and len(sentence) in SENTENCE_CHARACTERS else None


def _all_facts(function: ast.FunctionDef, name: str) -> Iterator[Fact]:
    for argument, default in _with_defaults(function.args):
        if argument.annotation is not None:
            yield Fact(f"What is the type of {argument.arg}?", ast.unparse(argument.annotation))
        if default is not None:
            yield Fact(f"What is the default of {argument.arg}?", ast.unparse(default))
    if function.returns is not None and ast.unparse(function.returns) != "None":
        yield Fact(f"What does {name} return?", ast.unparse(function.returns))


def _ask_fact(document: Document, fact: Fact) -> Conversation:
    question = f"{short_name(document)}{document.signature}\n\n{fact.question}"
    messages = (Message("user", question), Message("assistant", fact.answer))
    return Conversation(messages, source=f"{document.name} (signature)", answer=fact.answer)


def _ask_purpose(document: Document, sentence: str) -> Conversation:
    shown = document.signature if 0 < len(document.signature) <= LONGEST_SIGNATURE_CHARACTERS else ""
    question = f"{document.name}{shown}\n\nWhat does {short_name(document)} do?"
    return Conversation(
        (Message("user", question), Message("assistant", sentence)), source=f"{document.name} (purpose)"
    )


def _parse(signature: str) -> ast.FunctionDef | None:
    try:
        statement = ast.parse(f"def f{signature}: ...").body[0]
    except SyntaxError:
        return None
    return statement if isinstance(statement, ast.FunctionDef) else None


def _with_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    without = [None] * (len(positional) - len(arguments.defaults))
    yield from zip(positional, [*without, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _pick(name: str, choices: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % choices
