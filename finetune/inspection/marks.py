"""What each conversation holds by itself: what can be said of it without looking at the others."""

from collections.abc import Iterator

from finetune.conversations.messages import Conversation
from finetune.conversations.orders import oddities
from finetune.inspection.control_tokens import control_tokens
from finetune.inspection.findings import CONTROL_TOKENS, EMPTY, INVISIBLE, ORDERS, PERSONAL, SECRETS, Mark
from finetune.inspection.invisible import invisible_kinds
from finetune.inspection.likely_secrets import likely_secrets
from finetune.inspection.personal_data import personal_data

BETWEEN = "\n\n"


def text_of(conversation: Conversation) -> str:
    """All that is said, and the tools, as one text in which nothing runs from one message into the next."""
    tools = [] if conversation.tools is None else [conversation.tools]
    return BETWEEN.join([*tools, *(message.said() for message in conversation.messages)])


def cheap_marks(text: str) -> Iterator[Mark]:
    """Control tokens, invisible characters and likely secrets."""
    for token in control_tokens(text):
        yield CONTROL_TOKENS, token
    for kind in invisible_kinds(text):
        yield INVISIBLE, kind
    for secret in likely_secrets(text):
        yield SECRETS, secret.name


def all_marks(conversation: Conversation) -> Iterator[Mark]:
    """The same, and personal data, odd orders and empty messages."""
    text = text_of(conversation)
    yield from cheap_marks(text)
    for kind in personal_data(text):
        yield PERSONAL, kind
    for oddity in oddities(conversation):
        yield ORDERS, oddity
    for message in conversation.messages:
        if not message.said().strip():
            yield EMPTY, f"by {message.role}"
