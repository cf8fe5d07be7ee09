"""Both replies to one prompt, and as text for the terminal."""

from collections.abc import Mapping

from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.best_of import Taken, take_best
from finetune.evaluation.draw import Draw
from finetune.replies.asked_model import AskedModel
from tokenizer_ext.pages.terminal import printable


def read_both(models: Mapping[str, AskedModel], prompt: str, reply_tokens: int, draw: Draw) -> dict[str, Taken]:
    """The reply of each model to the prompt, under its name, with the same noise where they are on this machine."""
    # The last message is what a reply is compared with; to a prompt alone there is no known reply.
    asked = Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")
    return take_best(models, [asked], reply_tokens, draw)


def show_replies(replies: Mapping[str, Taken], reply_tokens: int) -> str:
    """The replies as text, each under the name of its model, with what it cost where it is the best of several."""
    shown = []
    for name, taken in replies.items():
        (reply,) = taken.answered
        end = "" if reply.stopped else f" [{reply_tokens} tokens, not ended]"
        shown.append(f"{name}:\n{printable(reply.reply)}{end}{taken.describe(before=chr(10))}")
    return "\n\n".join(shown)
