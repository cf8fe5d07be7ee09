"""Where a prompt stands before a question, and where its gist tokens stand in its place: a system turn, or plain text.

The ids after gist tokens are those that transformers gives for their letters there: `in_transformers` says so, and
`results.py` holds them to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from configs import InputError
from finetune.chat.template_format import TemplateFormat
from finetune.conversations.messages import Message
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat, PlainPromptFormat, PromptFormat
from finetune.templates.layout import for_template
from finetune.templates.rows import Span

WHAT_TO_DO = (
    "expected one with a system turn, where a prompt can stand: pass --chat plain, which puts it before a plain text, "
    "or take another base"
)


class PromptForm(Protocol):
    """How a question is put with the prompt, with its gist, and with nothing before it."""

    prompt_format: PromptFormat
    """What ends a reply, and how it is read."""
    place: str
    """Where the prompt stands, in words."""

    def after_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids up to where the base replies, the prompt in its place."""

    def after_gist(self, messages: Sequence[Message]) -> list[int]:
        """The same with the gist tokens there."""

    def after_nothing(self, messages: Sequence[Message]) -> list[int]:
        """The same with nothing there; a template may write a system turn of its own then."""

    def in_transformers(self, tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
        """The ids that transformers gives where a user writes the gist tokens as text."""

    def usage(self) -> str:
        """Python for a model card, behind `model` and `tokenizer`, that makes `inputs`."""


class TemplateForm:
    """The system turn of a chat template.

    Raises:
        InputError: the template has none.

    """

    place = "the system turn of the base's chat template"

    def __init__(self, chat: TemplateFormat, prompt: str, gist: Mapping[str, int]) -> None:
        self.chat, self.prompt, self.gist = chat, prompt, gist
        self.prompt_format: PromptFormat = ChatPromptFormat(chat)
        check_system_turn(chat)

    def after_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids, as of any conversation with this system turn."""
        return self.chat.render_prompt([Message("system", self.prompt), *messages])

    def after_gist(self, messages: Sequence[Message]) -> list[int]:
        """The ids; the letters of gist tokens are control tokens in the system turn, and nowhere else."""
        said = [Message("system", "".join(self.gist)), *messages]
        structure = self.chat.structures.of_prompt(said, None)
        row = self.chat.row(structure, said, None, prompt=True)
        filled = structure.layout.fill(said)
        places = zip(structure.layout.slots, filled.slots, strict=True)
        spans = [span for slot, (start, _) in places if slot.message == 0 for span in self._spans(start)]
        return self.chat.encoder.encode([replace(row, controls=sorted([*row.controls, *spans]))])[0].ids

    def after_nothing(self, messages: Sequence[Message]) -> list[int]:
        """The ids, as of any conversation without a system turn."""
        return self.chat.render_prompt(messages)

    def in_transformers(self, tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
        """The ids of `apply_chat_template` where the system message is the letters of the gist tokens."""
        chat = [{"role": "system", "content": "".join(self.gist)}, *map(for_template, messages)]
        ids: list[int] = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        return ids

    def usage(self) -> str:
        """A chat whose system message is the gist tokens."""
        said = f'{{"role": "system", "content": "{"".join(self.gist)}"}}'
        return (
            f'chat = [{said}, {{"role": "user", "content": "..."}}]\n'
            'inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", '
            "return_dict=True)"
        )

    def _spans(self, start: int) -> list[Span]:
        spans = list[Span]()
        for token, id_ in self.gist.items():
            spans.append((start, start + len(token), id_))
            start += len(token)
        return spans


class PlainForm:
    """The beginning of a plain text, for a base without a template."""

    place = "the beginning of a plain text"

    def __init__(self, tokenizer: PreTrainedTokenizerFast, prompt: str, gist: Mapping[str, int]) -> None:
        self.prompt, self.gist = prompt, gist
        self.format = PlainPromptFormat(tokenizer, PLAIN_PROMPTS["question"])
        self.prompt_format: PromptFormat = self.format

    def after_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of the prompt, a blank line, and the question."""
        return self.format.prompt_ids([Message("system", self.prompt), *messages])

    def after_gist(self, messages: Sequence[Message]) -> list[int]:
        """The gist tokens, and the ids of what follows them."""
        behind: list[int] = self.format.encoder.encode(self._behind(messages), add_special_tokens=False).ids
        return [*self.gist.values(), *behind]

    def after_nothing(self, messages: Sequence[Message]) -> list[int]:
        """The ids of the question."""
        return self.format.prompt_ids(messages)

    def in_transformers(self, tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
        """The ids of the text that begins with the letters of the gist tokens, with no bos before it."""
        ids: list[int] = tokenizer("".join(self.gist) + self._behind(messages), add_special_tokens=False)["input_ids"]
        return ids

    def usage(self) -> str:
        """A text that begins with the gist tokens."""
        written = f"{''.join(self.gist)}{self._behind([Message('user', '...')])}"
        return f'inputs = tokenizer({written!r}, add_special_tokens=False, return_tensors="pt")'

    def _behind(self, messages: Sequence[Message]) -> str:
        """What stands behind the gist tokens."""
        return self.format.prompt.text([Message("system", ""), *messages])


def check_system_turn(chat: TemplateFormat) -> None:
    """Refuses a chat template that shows no system message.

    Raises:
        InputError: it refuses one or leaves it out.

    """
    asked = [Message("system", "."), Message("user", ".")]
    where = chat.tokenizer.name_or_path or "base"
    try:
        layout = chat.structures.of_prompt(asked, None).layout
    except InputError as error:
        raise InputError(f"{where}: {error}, {WHAT_TO_DO}") from None
    if not layout.holds(0, "content"):
        raise InputError(f"{where}: its chat template leaves out what a system message says, {WHAT_TO_DO}")
