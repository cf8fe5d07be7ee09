"""Both replies to one prompt as text for the terminal."""

from collections.abc import Mapping

from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.scoring import read_replies
from finetune.replies.asked_model import AskedModel
from scratch_models.sampling_settings import Sampling
from tokenizer_ext.pages.terminal import printable


def show_replies(models: Mapping[str, AskedModel], prompt: str, reply_tokens: int, sampling: Sampling) -> str:
    """The reply of each model to the prompt, under its name, with the same noise where they are on this machine."""
    # The last message is what a reply is compared with; to a prompt alone there is no known reply.
    asked = Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")
    shown = []
    for name, model in models.items():
        reply = read_replies(model, [asked], reply_tokens, sampling)[0]
        end = "" if reply.stopped else f" [{reply_tokens} tokens, not ended]"
        shown.append(f"{name}:\n{printable(reply.reply)}{end}")
    return "\n\n".join(shown)
