"""The chat format that a tokenizer is trained and asked in: its own template, or the project's own format."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.chat_format import ChatFormat
from finetune.chat.graft_format import CHAT_TEMPLATE, CONTROL_TOKENS, GraftFormat
from finetune.chat.template_format import TemplateFormat

ChatChoice = Literal["auto", "base", "graft"]


def choose_format(
    tokenizer: PreTrainedTokenizerFast,
    choice: ChatChoice = "auto",
    *,
    calculator: bool = False,
    generation_config: GenerationConfig | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> ChatFormat:
    """The format of a tokenizer; `auto` takes its own template where it has one, and else the project's format.

    A reply also ends at what `generation_config` names. `template_options` are passed to the template, such as
    `enable_thinking`.

    Raises:
        InputError: there is no template, it cannot be used, or the control tokens of the project's format are missing.

    """
    if resolve_choice(tokenizer, choice) == "graft":
        if template_options:
            raise InputError(
                f"template_options: found {', '.join(template_options)}, expected none: the project's own chat format "
                "takes no options"
            )
        return GraftFormat(tokenizer, calculator)
    stops = stops_of(tokenizer, generation_config)
    return TemplateFormat(tokenizer, calculator, stops=stops, options=dict(template_options or {}))


class ChatSettings(Protocol):
    """Settings that say which chat format is meant."""

    @property
    def chat(self) -> ChatChoice:
        """The choice."""

    @property
    def template_options(self) -> dict[str, Any]:
        """What a base's own template is given."""

    @property
    def calculator(self) -> bool | None:
        """Whether arithmetic is completed."""


def format_of(settings: ChatSettings, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> ChatFormat:
    """The chat format that a run's settings choose for an assistant."""
    return choose_format(
        tokenizer,
        settings.chat,
        calculator=bool(settings.calculator),
        generation_config=model.generation_config,
        template_options=settings.template_options,
    )


def resolve_choice(tokenizer: PreTrainedTokenizerFast, choice: ChatChoice = "auto") -> Literal["base", "graft"]:
    """Which of the two is meant; a tokenizer whose template is the project's own is asked in the project's format.

    Raises:
        InputError: `base` is asked for and there is no template.

    """
    own = has_own_template(tokenizer)
    if choice == "base" and not own:
        raise InputError("chat: found base, and the base has no chat template of its own: pass --chat graft or auto")
    return "base" if own and choice != "graft" else "graft"


def has_own_template(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer has a chat template that is not the project's."""
    template = tokenizer.chat_template
    return bool(template) and template != CHAT_TEMPLATE


def knows_chat(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the model of this tokenizer is asked in a chat: by its own template or in the project's format."""
    known = tokenizer.get_added_vocab()
    return has_own_template(tokenizer) or all(token in known for token in CONTROL_TOKENS)


def stops_of(tokenizer: PreTrainedTokenizerFast, generation_config: GenerationConfig | None) -> tuple[int, ...]:
    """What stops the base beside the end of a turn, as its generation config says.

    A config without a generation config of its own names the default of its class, which may be any word here.
    """
    named = [] if generation_config is None else named_stops(generation_config)
    return tuple(id_ for id_ in named if id_ in tokenizer.added_tokens_decoder)


def named_stops(generation_config: GenerationConfig) -> list[int]:
    """The ids that end a reply, as a generation config names them.

    >>> named_stops(GenerationConfig()), named_stops(GenerationConfig(eos_token_id=7))
    ([], [7])
    """
    named = generation_config.eos_token_id
    return list(named) if isinstance(named, list) else [] if named is None else [named]
