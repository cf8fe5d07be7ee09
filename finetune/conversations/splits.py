"""The conversations of a run: those to learn from and those held out."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from configs import InputError
from finetune.conversations.embedded_conversations import keep_half_checkable, make_conversations
from finetune.conversations.formats import Conversation, Message, read_conversations
from finetune.conversations.keys import count_unread
from finetune.conversations.orders import OddOrder, count_oddities
from scratch_models.corpus.embedded_corpus import embedded_corpus
from scratch_models.embedded_default import EMBEDDED
from tokenizer_ext.pages.progress import shown

HELD_OUT_EVERY = 20


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
def read_conversation_splits(data: str) -> ConversationSplits:
    """The conversations named by `data`: `embedded`, a file, or a Hub name.

    Raises:
        InputError: the data cannot be read, or is too little to hold anything out.

    """
    if data == EMBEDDED:
        return _read_embedded()
    unread: Counter[str] = Counter()
    return _split(data, read_conversations(data, unread), unread)


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


def _split(data: str, conversations: Sequence[Conversation], unread: Mapping[str, int]) -> ConversationSplits:
    """One question in twenty is held out, chosen by its hash.

    So a question that stands there twice lies on one side, and the order of the lines has no effect.
    """
    learned = [conversation for conversation in conversations if _has_a_reply_to_learn(conversation)]
    ended = [_without_greeting(until_last_reply(conversation)) for conversation in learned]
    greetings = sum(one != _without_greeting(one) for one in learned)
    questions = sorted({_question(conversation) for conversation in ended})
    marked = len(conversations) - len(learned)
    if len(questions) < HELD_OUT_EVERY:
        without = f" beside {marked} conversations whose replies are all marked weight 0 or train false" * (marked > 0)
        raise InputError(
            f"{data}: {len(questions)} different questions{without} are too few, expected at least {HELD_OUT_EVERY}: "
            f"one in {HELD_OUT_EVERY} is held out; give more conversations"
        )
    held_out = set(questions[: len(questions) // HELD_OUT_EVERY])
    unanswered = sum(len(one.messages) for one in learned) - sum(len(one.messages) for one in ended)
    return ConversationSplits(
        training=[conversation for conversation in ended if _question(conversation) not in held_out],
        held_out=[conversation for conversation in ended if _question(conversation) in held_out],
        corpus=[],
        left_out={
            "messages after a last reply": unanswered,
            "greetings before a first question": greetings,
            "conversations whose replies are all marked weight 0 or train false": marked,
            **count_unread(unread),
        },
        odd=count_oddities(conversations),
    )


def _without_greeting(conversation: Conversation) -> Conversation:
    """The conversation, whose first message is not learned where the assistant says it and nobody asked."""
    first, *others = conversation.messages
    if first.role != "assistant" or not any(one.role == "assistant" and one.learned for one in others):
        return conversation
    return replace(conversation, messages=(replace(first, learned=False), *others))


def _has_a_reply_to_learn(conversation: Conversation) -> bool:
    return any(message.role == "assistant" and message.learned for message in conversation.messages)


def _question(conversation: Conversation) -> bytes:
    """A hash of what was said before the first reply; a greeting before the first question is none.

    The conversation ends with a reply.
    """
    roles = [message.role for message in conversation.messages]
    asked = roles.index("user") if "user" in roles else 0
    return hash_asked(conversation.messages[: roles.index("assistant", asked)])


def hash_asked(messages: Sequence[Message]) -> bytes:
    """The sha256 of what was said before a reply; whether it is learned makes it no other question."""
    asked = "\0".join(_said(replace(message, learned=True)) for message in messages)
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
