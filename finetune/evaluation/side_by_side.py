"""Both replies to one prompt, and as text for the terminal."""

from collections.abc import Mapping

from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.scoring import Answered, read_replies
from finetune.replies.asked_model import AskedModel
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.pages.terminal import printable


def read_both(
    models: Mapping[str, AskedModel], prompt: str, reply_tokens: int, sampling: Sampling
) -> dict[str, Answered]:
    """The reply of each model to the prompt, under its name, with the same noise where they are on this machine."""
    # The last message is what a reply is compared with; to a prompt alone there is no known reply.
    asked = Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")
    return {name: read_replies(model, [asked], reply_tokens, sampling)[0] for name, model in models.items()}


def show_replies(replies: Mapping[str, Answered], reply_tokens: int) -> str:
    """The replies as text, each under the name of its model."""
    shown = []
    for name, reply in replies.items():
        end = "" if reply.stopped else f" [{reply_tokens} tokens, not ended]"
        shown.append(f"{name}:\n{printable(reply.reply)}{end}")
    return "\n\n".join(shown)
