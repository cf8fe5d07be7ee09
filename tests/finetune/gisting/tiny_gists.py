"""A tiny base with gist tokens for a prompt, tied or untied, with a chat template or without."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune.chat.graft_format import CHAT_TEMPLATE, CONTROL_TOKENS
from finetune.conversations.messages import Message
from finetune.engine.engine import Engine, start_engine
from finetune.gisting.gist_tokens import GistModel, Prompt, add_rows, load_plain_base
from finetune.gisting.questions import Question
from finetune.gisting.settings import GistSettings
from finetune.gisting.teacher import reply_row, states_of, taught_rows
from scratch_models.loop.devices import make_accelerator
from tests.finetune.extended_models import save_base
from tests.finetune.tiny_models import tiny_gpt2, tiny_llama
from tokenizer_ext.huggingface.hf_model import load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import add_control_tokens, next_token_id
from tokenizer_ext.huggingface.plain_text import plain_text_encoder

PROMPT = "It is white. What colour has the tiger? The river number 3 is green."
QUESTIONS = [Question((Message("user", f"What colour has the stone number {number}?"),), "here") for number in range(4)]
REPLIES = [[70 + number, 80, 90 + 3 * number, 75][: number + 1] for number in range(4)]


def save_chat_base(architecture: str, folder: Path, template: str = CHAT_TEMPLATE) -> Path:
    """The same as `save_base`, with the control tokens of a chat and a template."""
    save_base(architecture, folder)
    tokenizer = add_control_tokens(load_tokenizer(str(folder)), CONTROL_TOKENS)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    rows = next_token_id(tokenizer)
    no_dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    model = tiny_gpt2(rows, **no_dropout) if architecture == "gpt2" else tiny_llama(rows)
    model.save_pretrained(folder)
    return folder


@dataclass
class Taught:
    """A base with gist tokens, and what it makes of the replies behind the prompt."""

    gist: GistModel
    engine: Engine
    hidden: list[torch.Tensor]

    @property
    def rows(self):
        """The replies behind the gist tokens."""
        asked = (self.gist.form.after_gist(one.messages) for one in QUESTIONS)
        return [reply_row(ids, reply) for ids, reply in zip(asked, REPLIES, strict=True)]


def teach(base: Path, tokens: int | None = None, *, in_template: bool = False) -> Taught:
    """So many gist tokens for the prompt; as many as it has tokens where no number is given."""
    ids = plain_text_encoder(load_tokenizer(str(base))).encode(PROMPT, add_special_tokens=False).ids
    settings = GistSettings(prompt="none", base=str(base), tokens=tokens or len(ids))
    prompt = Prompt(PROMPT, ids, in_template)
    gist = add_rows(load_plain_base(settings, prompt, torch.device("cpu")), prompt)
    engine = start_engine(gist.model, settings, make_accelerator("fp32"))
    hidden = states_of(gist.model, taught_rows(gist.form, QUESTIONS, REPLIES), engine, 500, "the base")
    return Taught(gist, engine, hidden)
