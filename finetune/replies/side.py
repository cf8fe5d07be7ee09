"""One of the models that are compared: what it is, and the prompt formats in which it can be asked."""

from collections.abc import Iterable
from typing import Protocol

from finetune.replies.asked_model import AskedModel
from finetune.replies.prompts import PLAIN_PROMPTS, PlainPrompt
from finetune.replies.side_settings import FormatChoice, SideSettings

CHAT = "chat"


class Side(Protocol):
    """One of the models that are compared."""

    @property
    def name(self) -> str:
        """As the user named it."""

    @property
    def identity(self) -> str:
        """What exactly it is: the hash of its weights, or its name on a server and the server's address."""

    @property
    def is_local(self) -> bool:
        """Whether its weights are on this machine, so that it gives the likelihood of a text."""

    @property
    def knows_chat(self) -> bool:
        """Whether it has a chat format."""

    @property
    def chat_format(self) -> str:
        """Whose chat format it has, in a few words."""

    def in_chat(self, *, calculator: bool = False) -> AskedModel:
        """The model asked in its chat format.

        Raises:
            InputError: it has none.

        """

    def in_plain_text(self, prompt: PlainPrompt, *, calculator: bool = False) -> AskedModel:
        """The model asked to go on with a text."""


def is_asked_in_chat(side: Side, choice: FormatChoice) -> bool:
    """Whether the side is asked in its chat format."""
    return side.knows_chat if choice == "auto" else choice == "chat"


def format_for_a_prompt(side: Side, choice: FormatChoice, plain_prompt: str) -> str:
    """The name of the prompt format in which the side is asked a single prompt."""
    return CHAT if is_asked_in_chat(side, choice) else plain_prompt


def asked_as(side: Side, prompt_format: str, *, calculator: bool = False) -> AskedModel:
    """The side in the prompt format of this name."""
    if prompt_format == CHAT:
        return side.in_chat(calculator=calculator)
    return side.in_plain_text(PLAIN_PROMPTS[prompt_format], calculator=calculator)


def prepare_both(
    base: Side, tuned: Side, settings: SideSettings, plain_prompt: str, *, calculator: bool = False
) -> dict[str, AskedModel]:
    """Both sides in the prompt formats in which each is asked a single prompt, once it is printed what they are."""
    models = {}
    for which, side, choice in (("base", base, settings.base_format), ("tuned", tuned, settings.tuned_format)):
        prompt_format = format_for_a_prompt(side, choice, plain_prompt)
        models[which] = asked_as(side, prompt_format, calculator=calculator)
        print(f"{which}: {describe(side, [prompt_format])}", flush=True)
    return models


def formats_over_data(side: Side, choice: FormatChoice) -> list[str]:
    """The names of the prompt formats in which the side is asked over data: its chat format, or else all plain ones."""
    return [CHAT] if is_asked_in_chat(side, choice) else list(PLAIN_PROMPTS)


def asked_over_data(side: Side, choice: FormatChoice, *, calculator: bool = False) -> dict[str, AskedModel]:
    """The side in every prompt format in which it is asked over data."""
    return {name: asked_as(side, name, calculator=calculator) for name in formats_over_data(side, choice)}


def describe(side: Side, prompt_formats: Iterable[str]) -> str:
    """What a side is and how it is asked, on one line; `prompt_formats` are `chat` or names of plain prompts."""
    names = list(prompt_formats)
    asked = side.chat_format if names == [CHAT] else f"plain text ({', '.join(names)})"
    return f"{name_exactly(side)} · {asked}"


def name_exactly(side: Side) -> str:
    """The name of a side with what exactly it is; the address of a server says both."""
    return f"{side.name} · {side.identity}" if side.is_local else side.identity
