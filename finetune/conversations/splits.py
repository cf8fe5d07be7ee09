"""The conversations of a run: those to learn from and those held out."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from configs import InputError
from finetune.conversations.embedded_conversations import keep_half_checkable, make_conversations
from finetune.conversations.formats import Conversation, Message, read_conversations
from finetune.conversations.keys import count_unread
from finetune.conversations.orders import OddOrder, count_oddities
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.embedded_default import EMBEDDED
from tokenizer_ext.pages.progress import shown

HELD_OUT_EVERY = 20
ALL_MARKED = "conversations whose replies are all marked weight 0 or train false"
Learn = Literal["all", "last"]
"""Which replies of a conversation are learned."""


@dataclass(frozen=True)
class ConversationSplits:
    """Two sets without a question in common, and the text that new tokens may be learned from."""

    training: list[Conversation]
    held_out: list[Conversation]
    corpus: list[str]
    """Documents of the domain, for the embedded data; empty otherwise."""
    left_out: Mapping[str, int]
    """What is in neither set -> how often."""
    odd: Mapping[str, OddOrder] = field(default_factory=dict)
    """What is odd in the order of turns, and read as it is."""

    def sha256(self) -> str:
        """The hash of all messages of both sets."""
        conversations = (*self.training, *self.held_out)
        return hash_messages((one.messages for one in conversations), tools=(one.tools for one in conversations))


@shown("reading the conversations")
def read_conversation_splits(data: str, held_out: str | None = None, learn: Learn = "all") -> ConversationSplits:
    """The conversations named by `data`: `embedded`, a file, a folder or a Hub name.

    Those held out are named by `held_out`, else they are one question in twenty. Every reply is learned, or of each
    conversation the last.

    Raises:
        InputError: the data cannot be read, or is too little to hold anything out.

    """
    if data == EMBEDDED:
        if held_out is not None:
            raise InputError(f"held_out: found {held_out}, expected none: the embedded conversations have their own")
        return _read_embedded()
    read = _read(data, learn)
    return _split(data, read) if held_out is None else _split_given(data, read, held_out, _read(held_out, learn))


def until_last_reply(conversation: Conversation) -> Conversation:
    """The conversation up to the last reply that is learned; what follows is answered by nobody, or not to be learned.

    >>> from finetune.conversations.formats import Message
    >>> asked = Conversation((Message("user", "1+1?"), Message("assistant", "2"), Message("user", "Thanks")), "x:1")
    >>> len(until_last_reply(asked).messages)
    2
    """
    replies = [place for place, message in enumerate(conversation.messages) if message.role == "assistant"]
    learned = [place for place in replies if conversation.messages[place].learned]
    return replace(conversation, messages=conversation.messages[: max(learned or replies) + 1])


def _read_embedded() -> ConversationSplits:
    corpus = embedded_corpus()
    made, of_held_out = make_conversations(corpus.domain), make_conversations(corpus.domain_held_out)
    held_out = keep_half_checkable(of_held_out)
    # Two functions may share name and signature although their documentation differs.
    held_out_questions = {_question(conversation) for conversation in held_out}
    apart = [conversation for conversation in made if _question(conversation) not in held_out_questions]
    training = keep_half_checkable(apart)
    left_out = {
        "questions that are held out too": len(made) - len(apart),
        "questions beyond the half that cannot be checked": len(apart) - len(training),
        "held-out questions beyond the half that cannot be checked": len(of_held_out) - len(held_out),
    }
    return ConversationSplits(training, held_out, [document.text for document in corpus.domain], left_out)


@dataclass(frozen=True)
class _Read:
    """Conversations ready to be learned from, and all of the file with those that cannot be."""

    usable: list[Conversation]
    all_of_them: list[Conversation]
    left_out: Counter[str]


def _read(data: str, learn: Learn) -> _Read:
    unread: Counter[str] = Counter()
    conversations = read_conversations(data, unread)
    learned = [conversation for conversation in conversations if _has_a_reply_to_learn(conversation)]
    ended = [_without_greeting(until_last_reply(conversation)) for conversation in learned]
    left_out = {
        "messages after a last reply": sum(len(one.messages) for one in learned)
        - sum(len(one.messages) for one in ended),
        "greetings before a first question": sum(one != _without_greeting(one) for one in learned),
        ALL_MARKED: len(conversations) - len(learned),
        **count_unread(unread),
    }
    usable = [_learning_the_last(one) for one in ended] if learn == "last" else ended
    return _Read(usable, conversations, Counter(left_out))


def _split(data: str, read: _Read) -> ConversationSplits:
    """One question in twenty is held out, chosen by its hash, with those that are nearly the same.

    So a question that stands there twice lies on one side, and the order of the lines has no effect.
    """
    questions = sorted({_question(conversation) for conversation in read.usable})
    marked = read.left_out[ALL_MARKED]
    if len(questions) < HELD_OUT_EVERY:
        without = f" beside {marked} {ALL_MARKED}" * (marked > 0)
        raise InputError(
            f"{data}: {len(questions)} different questions{without} are too few, expected at least {HELD_OUT_EVERY}: "
            f"one in {HELD_OUT_EVERY} is held out; give more conversations, or some to hold out as --held_out"
        )
    first = set(questions[: len(questions) // HELD_OUT_EVERY])
    chosen = {_near_question(one) for one in read.usable if _question(one) in first}
    return ConversationSplits(
        training=[conversation for conversation in read.usable if _near_question(conversation) not in chosen],
        held_out=[conversation for conversation in read.usable if _near_question(conversation) in chosen],
        corpus=[],
        left_out=read.left_out,
        odd=count_oddities(read.all_of_them),
    )


def _split_given(data: str, training: _Read, name: str, held_out: _Read) -> ConversationSplits:
    """All of a set that is given are held out, and what shares a question with them is not learned."""
    asked = {_near_question(conversation) for conversation in held_out.usable}
    apart = [one for one in training.usable if _near_question(one) not in asked]
    shared = len(training.usable) - len(apart)
    for where, usable in ((data, training.usable), (name, held_out.usable)):
        if not usable:
            raise InputError(f"{where}: no conversation has a reply to learn: all are marked weight 0 or train false")
    if not apart:
        raise InputError(
            f"{data}: all {shared} questions are held out in {name} too, expected other ones to learn from"
        )
    return ConversationSplits(
        training=apart,
        held_out=held_out.usable,
        corpus=[],
        left_out={**(training.left_out + held_out.left_out), "conversations whose question is held out too": shared},
        odd=count_oddities([*training.all_of_them, *held_out.all_of_them]),
    )


def _learning_the_last(conversation: Conversation) -> Conversation:
    """The conversation, which ends with a reply to learn, with no other reply learned."""
    *before, last = conversation.messages
    read = (replace(one, weight=0.0) if one.role == "assistant" else one for one in before)
    return replace(conversation, messages=(*read, last))


def _without_greeting(conversation: Conversation) -> Conversation:
    """The conversation, whose first message is not learned where the assistant says it and nobody asked."""
    first, *others = conversation.messages
    if first.role != "assistant" or not any(one.role == "assistant" and one.learned for one in others):
        return conversation
    return replace(conversation, messages=(replace(first, weight=0.0), *others))


def _has_a_reply_to_learn(conversation: Conversation) -> bool:
    return any(message.role == "assistant" and message.learned for message in conversation.messages)


def _question(conversation: Conversation) -> bytes:
    """A hash of what was said before the first reply."""
    return hash_asked(_asked(conversation))


def _near_question(conversation: Conversation) -> bytes:
    """The same for questions that differ in capitals, spaces and the punctuation at their ends alone."""
    return hash_asked([replace(one, content=_without_style(one.content)) for one in _asked(conversation)])


def _without_style(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,;:!?")


def _asked(conversation: Conversation) -> tuple[Message, ...]:
    """What was said before the first reply; a greeting before the first question is none. It ends with a reply."""
    roles = [message.role for message in conversation.messages]
    asked = roles.index("user") if "user" in roles else 0
    return conversation.messages[: roles.index("assistant", asked)]


def hash_asked(messages: Sequence[Message]) -> bytes:
    """The sha256 of what was said before a reply; how much it is learned makes it no other question."""
    asked = "\0".join(_said(replace(message, weight=1.0)) for message in messages)
    return hashlib.sha256(asked.encode()).digest()


def hash_messages(groups: Iterable[Sequence[Message]], tools: Iterable[str | None] = ()) -> str:
    """The sha256 of some groups of messages in their order, with the `tools` of each."""
    digest = hashlib.sha256()
    for messages in groups:
        for message in messages:
            digest.update(f"{_said(message)}\0".encode())
        digest.update(b"\0")
    for place, defined in enumerate(tools):
        digest.update(b"" if defined is None else f"tools\0{place}\0{defined}\0".encode())
    return digest.hexdigest()


def _said(message: Message) -> str:
    """A message as one text; what could be read before there was more than content reads as it did then."""
    written = message.as_written()
    beside = written.beside_content()
    return f"{written.role}\0{written.content}" + (f"\0{beside}" if beside else "")
