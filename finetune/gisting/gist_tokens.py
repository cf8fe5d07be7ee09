"""The new control tokens of a prompt: what is refused, the base with rows for them, and what these begin as."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from configs import InputError
from finetune.chat.choose_format import stops_of
from finetune.chat.template_format import TemplateFormat
from finetune.export.saved_model import load_start, load_start_tokenizer
from finetune.gisting.prompt_forms import PlainForm, PromptForm, TemplateForm, check_system_turn
from finetune.gisting.settings import GistSettings
from finetune.losses.head import check_logits_are_the_heads
from scratch_models.corpus.text_files import read_text
from tokenizer_ext.embeddings.extended_tables import ExtendedEmbedding
from tokenizer_ext.embeddings.tables import find_tables, separate_new_rows
from tokenizer_ext.embeddings.token_rows import check_rows
from tokenizer_ext.extension.corpus_files import sort_texts
from tokenizer_ext.extension.extension import Extended, grow
from tokenizer_ext.extension.plan import Plan, make_plan
from tokenizer_ext.extension.wanted import Wanted
from tokenizer_ext.huggingface.plain_text import control_tokens_of, plain_text_encoder


@dataclass(frozen=True)
class Prompt:
    """What is compressed."""

    text: str
    ids: list[int]
    """In the base's ids, by itself."""
    in_template: bool
    """Whether it stands in a system turn; else before a plain text."""

    def sha256(self) -> str:
        """The hash of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class PlainBase:
    """The base as it is read: it replies behind the prompt before it gets a row."""

    model: PreTrainedModel
    plan: Plan
    gist: dict[str, int]
    """Each token with its id, in their order."""
    form: PromptForm


@dataclass(frozen=True)
class GistModel:
    """The base with gist tokens, whose rows alone train."""

    extended: Extended
    gist: dict[str, int]
    """Each token with its id, in their order."""
    form: PromptForm

    @property
    def model(self) -> PreTrainedModel:
        """The frozen base with the rows."""
        return self.extended.model

    @property
    def rows(self) -> nn.Parameter:
        """All that trains, (N, D)."""
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, ExtendedEmbedding), "the rows are not folded yet"
        return embedding.new_rows

    @property
    def tied(self) -> bool:
        """Whether the rows also score their tokens; else those of the head stay the mean of the old ones."""
        return self.model.get_output_embeddings().new_rows is self.rows


def read_prompt(settings: GistSettings) -> Prompt:
    """The prompt in the base's ids; no weight is read.

    Raises:
        InputError: it is empty, holds a control token, or has no more tokens than are to stand for it; or the base's
            template has no place for it.

    """
    text = read_text(settings.prompt).strip()
    if not text:
        raise InputError(f"{settings.prompt}: holds nothing but blanks, expected the text of a prompt")
    tokenizer = load_start_tokenizer(settings.base)
    if found := next((token for token in control_tokens_of(tokenizer) if token in text), None):
        raise InputError(
            f"{settings.prompt}: holds the control token {found!r}, expected the text of a prompt alone: leave out "
            "what marks turns, the base's chat template writes it"
        )
    ids: list[int] = plain_text_encoder(tokenizer).encode(text, add_special_tokens=False).ids
    if settings.tokens >= len(ids):
        raise InputError(
            f"tokens: found {settings.tokens}, expected fewer than the {len(ids)} tokens of {settings.prompt}: nothing "
            "would be saved"
        )
    in_template = settings.chat == "auto" and bool(tokenizer.chat_template)
    if in_template:
        check_system_turn(TemplateFormat(tokenizer))
    return Prompt(text, ids, in_template)


def load_plain_base(settings: GistSettings, prompt: Prompt, device: torch.device) -> PlainBase:
    """The base on the device, and what will be added to it.

    Raises:
        InputError: a token's name is taken, or the model cannot have rows of new tokens or be distilled so.

    """
    tokens = [f"<|{settings.name}_{number}|>" for number in range(settings.tokens)]
    model, tokenizer = load_start(settings.base, device)
    plan = make_plan(tokenizer, sort_texts((), None, ()), Wanted(new_tokens=0, control_tokens=tokens))
    check_rows(model, tokenizer, plan.new_ids)
    find_tables(model)
    check_logits_are_the_heads(model)
    gist = {token: plan.first_new_id + number for number, token in enumerate(tokens)}
    form: PromptForm = PlainForm(plan.tokenizer, prompt.text, gist)
    if prompt.in_template:
        chat = TemplateFormat(plan.tokenizer, stops=stops_of(tokenizer, model.generation_config))
        form = TemplateForm(chat, prompt.text, gist)
    return PlainBase(model, plan, gist, form)


def add_rows(base: PlainBase, prompt: Prompt) -> GistModel:
    """The base, changed in place, with rows for the tokens; everything else is frozen."""
    extended = grow((base.model, base.plan.base), base.plan, rows_multiple=1, start="mean", seed=0)
    separate_new_rows(extended.model, extended.first_new_id, len(base.gist))
    gist = GistModel(extended, base.gist, base.form)
    fill_rows(gist, prompt.ids)
    return gist


@torch.no_grad()
def fill_rows(gist: GistModel, prompt_ids: Sequence[int]) -> None:
    """Begins the rows as those of the first and last tokens of the prompt; a head's own rows do not train.

    With as many tokens as the prompt has, they are its own rows, and read as it does. Means of rows are no start: on
    SmolLM2 replies were forty times as far from those behind the prompt as without one.
    """
    embedding, head = gist.model.get_input_embeddings(), gist.model.get_output_embeddings()
    gist.rows.copy_(embedding.table.weight[take_ends(prompt_ids, len(gist.gist))])
    for own in (head.new_rows, head.new_biases):
        if own is not None and own is not gist.rows:
            own.requires_grad_(False)


def take_ends(ids: Sequence[int], number: int) -> list[int]:
    """So many ids, half of them from the beginning and half from the end.

    >>> take_ends([5, 6, 7, 8, 9], 3), take_ends([5, 6], 2)
    ([5, 6, 9], [5, 6])
    """
    return [*ids[: number - number // 2], *ids[len(ids) - number // 2 :]]
