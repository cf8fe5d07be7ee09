"""Both replies to one prompt, of the base and of the tuned model, as text for the terminal."""

from transformers import PreTrainedModel

from finetune.chat.choose_format import choose_format
from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.comparison import Model
from finetune.evaluation.scoring import answer, base_prompt_formats
from finetune.replies.prompts import ChatPromptFormat, PromptFormat
from scratch_models.sampling_settings import Sampling
from tokenizer_ext.pages.terminal import printable


def show_replies(
    base: Model,
    tuned: Model,
    prompt: str,
    plain_prompt: str,
    reply_tokens: int,
    sampling: Sampling,
    calculator: bool,
) -> str:
    """Both replies to the prompt, with the same noise; a base without the chat format is asked in `plain_prompt`."""
    # The last message is what a reply is compared with; to a prompt alone there is no known reply.
    asked = Conversation((Message("user", prompt), Message("assistant", "")), source="prompt")
    of_base = base_prompt_formats(base[1], calculator=calculator, generation_config=base[0].generation_config)
    prompt_format = of_base["chat"] if "chat" in of_base else of_base[plain_prompt]
    config = tuned[0].generation_config
    chat = ChatPromptFormat(choose_format(tuned[1], calculator=calculator, generation_config=config))
    prompt_formats: dict[str, tuple[PreTrainedModel, PromptFormat]] = {
        "base": (base[0], prompt_format),
        "tuned": (tuned[0], chat),
    }
    shown = []
    for name, (model, prompt_format) in prompt_formats.items():
        reply = answer(model, prompt_format, [asked], reply_tokens, sampling)[0]
        end = "" if reply.stopped else f" [{reply_tokens} tokens, not ended]"
        shown.append(f"{name}:\n{printable(reply.reply)}{end}")
    return "\n\n".join(shown)
