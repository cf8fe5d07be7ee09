"""A side whose weights are on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.choose_format import choose_format, has_own_template, knows_chat
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import ChatPromptFormat, PlainPrompt, PlainPromptFormat


@dataclass(frozen=True)
class LocalSide:
    """A model and its tokenizer."""

    name: str
    identity: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """What its own chat template is given besides, as the run was given that it comes from."""
    generation_config: GenerationConfig | None = None
    """Where its replies end, where that is not the model's own."""
    of_base: bool = False
    """Whether it is the base under the adapters of the model, which is the other side's too."""
    why_apart: str = ""
    """Why the base was read for itself although the other side is an adapter; empty where there was no question."""

    @property
    def is_local(self) -> bool:
        """Yes."""
        return True

    @property
    def knows_chat(self) -> bool:
        """Whether the tokenizer has a chat template, or the control tokens of the project's format."""
        return knows_chat(self.tokenizer)

    @property
    def chat_format(self) -> str:
        """Where its chat format comes from."""
        if not self.knows_chat:
            return "no chat format"
        return "its own chat template" if has_own_template(self.tokenizer) else "Graft's chat format"

    def in_chat(self, *, calculator: bool = False) -> LocalModel:
        """The model asked in its own chat format."""
        if not self.knows_chat:
            raise InputError(f"{self.name}: has no chat format, expected a chat template: ask it in plain text")
        try:
            chat = choose_format(
                self.tokenizer,
                calculator=calculator,
                generation_config=self.generation_config or self.model.generation_config,
                template_options=self.template_options,
            )
        except InputError as error:
            raise InputError(f"{self.name}: {error}; it can be asked in plain text") from None
        return LocalModel(self.model, ChatPromptFormat(chat), self.of_base)

    def in_plain_text(self, prompt: PlainPrompt, *, calculator: bool = False) -> LocalModel:
        """The model asked to go on with a text."""
        prompt_format = PlainPromptFormat(self.tokenizer, prompt, calculator=calculator)
        return LocalModel(self.model, prompt_format, self.of_base)
