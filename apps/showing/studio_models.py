"""The models of the studio as its tabs ask them."""

from typing import Any

from apps.showing.studio_parts import StudioParts
from finetune.replies.asked_model import AskedModel
from finetune.replies.prompts import PLAIN_PROMPTS, PlainPrompt
from finetune.serving.pooled_model import PooledModel

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "multiple", "api_visibility": "private"}
"""Of an event that shows by itself how far it is."""


FORMATS = {
    "auto": "its chat template, else as a question",
    "chat": "its chat template",
    "question": "Question: … Answer:",
    "dialogue": "User: … Assistant:",
    "bare": "the prompt, then a blank line",
    "raw": "raw: go on with the prompt",
}
"""The prompt formats in which a model can be asked, with the words that the page has for them."""


class Verbatim(PlainPrompt):
    """No format at all: the prompt as it stands, and all that follows."""

    def cut(self, generated: str) -> str:
        r"""The whole text, blank lines and spaces included.

        >>> VERBATIM.cut(" one\n\ntwo")
        ' one\n\ntwo'
        """
        return generated


VERBATIM = Verbatim(labels={"user": "", "assistant": ""}, between="", separator="")


def plain_prompt(prompt_format: str) -> PlainPrompt:
    """The plain text of a format other than `chat` and `auto`."""
    return VERBATIM if prompt_format == "raw" else PLAIN_PROMPTS[prompt_format]


def names_of(studio: StudioParts) -> list[str]:
    """All that can be asked."""
    return [*studio.names, *studio.servers]


def names_with_steps(studio: StudioParts) -> list[str]:
    """All that can be asked, with the checkpoints of runs."""
    return [*studio.parts.names.with_steps(), *studio.servers]


def model_of(studio: StudioParts, name: str, prompt_format: str) -> AskedModel:
    """A model in a prompt format of `compare_form.FORMATS`.

    Raises:
        InputError: there is no such model.
    """
    plain = None if prompt_format in ("auto", "chat") else plain_prompt(prompt_format)
    if name in studio.servers:
        side = studio.servers[name]
        return side.in_plain_text(plain) if plain else side.in_chat()
    return PooledModel(
        pool=studio.parts.pool,
        place=studio.parts.names.place_of(name),
        prompt=plain,
        without_chat=plain_prompt("question") if prompt_format == "auto" else None,
        calculator=studio.calculator,
    )


def proof_of(studio: StudioParts, name: str) -> str:
    """What exactly a model is, in one line; empty as long as it is not in memory."""
    if name in studio.servers:
        return f"{studio.servers[name].identity}: what that is, only the server knows"
    opening = studio.parts.pool.open(studio.parts.names.place_of(name))
    return opening.result().proof if opening.done() and opening.exception() is None else ""
