"""The conversations of a run: those to learn from and those held out."""

import hashlib
from dataclasses import dataclass

from configs import InputError
from finetune.conversations import Conversation, Message, read_conversations
from finetune.embedded_conversations import make_conversations
from scratch_models.embedded_corpus import embedded_corpus

EMBEDDED = "embedded"
HELD_OUT_SHARE = 0.05


@dataclass(frozen=True)
class ConversationSets:
    """Two sets without a question in common, and the text that new tokens may be learned from."""

    training: list[Conversation]
    held_out: list[Conversation]
    corpus: list[str]
    """Documents of the domain, for the embedded data; empty otherwise."""

    def sha256(self) -> str:
        """The hash of all messages of both sets."""
        digest = hashlib.sha256()
        for conversation in (*self.training, *self.held_out):
            for message in conversation.messages:
                digest.update(f"{message.role}\0{message.content}\0".encode())
        return digest.hexdigest()


def read_conversation_sets(data: str) -> ConversationSets:
    """The conversations named by `data`: `embedded`, a file, or a Hub name.

    Of a file or Hub data set, about one question in twenty is held out, by the hash of what was asked: a question that stands
    there twice lies on one side, whatever the order of the lines.

    Raises:
        InputError: the data cannot be read, or is too little to hold anything out.

    """
    if data == EMBEDDED:
        corpus = embedded_corpus()
        training, held_out = make_conversations(corpus.domain), make_conversations(corpus.domain_held_out)
        return ConversationSets(training, held_out, [document.text for document in corpus.domain])
    conversations = [until_last_reply(conversation) for conversation in read_conversations(data)]
    held_out = [conversation for conversation in conversations if _uniform(conversation) < HELD_OUT_SHARE]
    training = [conversation for conversation in conversations if _uniform(conversation) >= HELD_OUT_SHARE]
    if not held_out or not training:
        raise InputError(
            f"{data}: {len(conversations)} conversations are too few to hold out one in twenty: give at least 50"
        )
    return ConversationSets(training, held_out, [])


def until_last_reply(conversation: Conversation) -> Conversation:
    """The conversation up to its last assistant message; what follows that is answered by nobody.

    >>> asked = Conversation((Message("user", "1+1?"), Message("assistant", "2"), Message("user", "Thanks")), "x:1")
    >>> len(until_last_reply(asked).messages)
    2
    """
    last = max(place for place, message in enumerate(conversation.messages) if message.role == "assistant")
    return Conversation(conversation.messages[: last + 1], conversation.source, conversation.answer)


def _uniform(conversation: Conversation) -> float:
    asked = "\0".join(f"{message.role}\0{message.content}" for message in _question(conversation))
    return int.from_bytes(hashlib.sha256(asked.encode()).digest()[:8], "big") / 2**64


def _question(conversation: Conversation) -> tuple[Message, ...]:
    first_reply = next(place for place, message in enumerate(conversation.messages) if message.role == "assistant")
    return conversation.messages[:first_reply]
