"""A known reply on its own, for tests that put no question to a model."""

from finetune.conversations.formats import Conversation, Message


def known_reply(prompt_format, reply):
    """The reply as it would follow any prompt."""
    return prompt_format.known_reply(Conversation((Message("user", "?"), Message("assistant", reply)), "reply"))
