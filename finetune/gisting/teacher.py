"""The base with the prompt before each question: what it replies, and what it makes of its replies, place by place.

The replies are kept in the run's folder. The hidden states before the head are kept in memory, and the frozen head is
applied to them again, which is the whole distribution in a hundredth of its size. What all rows begin with, the prompt,
is computed once for those that share a micro-batch.

Shapes: S places of a reply, D width.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from configs.whole_folder import write_whole
from finetune.chat.packing import Row, cut_by_tokens, first_fit, join, shared_prefix
from finetune.engine.engine import Engine
from finetune.engine.padding_free import hidden_states
from finetune.gisting.gist_tokens import PlainBase
from finetune.gisting.prompt_forms import PromptForm
from finetune.gisting.prompted_replies import Replies, reply_behind
from finetune.gisting.questions import Question, Questions
from finetune.gisting.settings import GistSettings
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.loop.micro_batches import IGNORED_TARGET, MicroBatch
from tokenizer_ext.pages.progress import progress

REPLIES = "replies.json"


def reply_row(asked: Sequence[int], reply: Sequence[int]) -> Row:
    """Ids and targets of a reply behind what asks for it.

    >>> reply_row([5, 6], [7, 8])
    ([5, 6, 7], [-100, 7, 8])
    """
    return [*asked, *reply][:-1], [IGNORED_TARGET] * (len(asked) - 1) + list(reply)


def read_replies(run: Path, questions: Questions) -> tuple[Replies, Replies] | None:
    """The replies that a run keeps to so many questions; None where it has none yet."""
    try:
        kept = json.loads((run / REPLIES).read_text(encoding="utf-8"))
        found = kept["training"], kept["held_out"]
    except (OSError, ValueError, KeyError):
        return None
    return found if [len(one) for one in found] == [len(questions.training), len(questions.held_out)] else None


def ask_teacher(base: PlainBase, questions: Questions, settings: GistSettings, run: Path) -> None:
    """Has the base reply to every question behind the whole prompt, and keeps it in the run's folder."""
    drawn = Sampling(temperature=settings.temperature, seed=settings.seed)
    replies = {}
    for name, some, sampling in (
        ("training", questions.training, drawn),
        ("held_out", questions.held_out, Sampling(temperature=0.0)),
    ):
        asked = [base.form.after_prompt(one.messages) for one in some]
        replies[name] = reply_to(base.model, base.form, asked, settings.reply_tokens, sampling)
    write_whole(run / REPLIES, json.dumps(replies) + "\n")


def reply_to(
    model: PreTrainedModel, form: PromptForm, asked: Sequence[Sequence[int]], reply_tokens: int, sampling: Sampling
) -> Replies:
    """The model's replies to what is asked."""
    stops = form.prompt_format.stop_ids
    return reply_behind(model, asked, max_new_tokens=reply_tokens, stop_ids=stops, sampling=sampling)


def taught_rows(form: PromptForm, questions: Sequence[Question], replies: Replies) -> list[Row]:
    """Each reply behind prompt and question."""
    asked = (form.after_prompt(one.messages) for one in questions)
    return [reply_row(ids, reply) for ids, reply in zip(asked, replies, strict=True)]


def group_rows(rows: Sequence[Row], tokens: int, engine: Engine) -> list[list[int]]:
    """The places of rows that share a micro-batch of at most so many tokens."""
    if engine.packs:
        prefix = shared_prefix(rows) if engine.shares_prefixes else 0
        return first_fit([len(row[0]) - prefix for row in rows], max(tokens - prefix, 1))
    order = sorted(range(len(rows)), key=lambda place: len(rows[place][0]))
    sizes = [len(group) for group in cut_by_tokens([rows[place] for place in order], tokens)]
    places = iter(order)
    return [[next(places) for _ in range(size)] for size in sizes]


def join_rows(rows: Sequence[Row], engine: Engine) -> MicroBatch:
    """Rows as one micro-batch, as the engine computes them."""
    return join(rows, packed=engine.packs, shares_prefix=engine.shares_prefixes)


@torch.no_grad()
def states_of(model: PreTrainedModel, rows: Sequence[Row], engine: Engine, tokens: int, what: str) -> list[Tensor]:
    """What the head reads before each target of each row, (S, D) for each, on the CPU."""
    found: dict[int, Tensor] = {}
    with progress(what, len(rows), "replies") as bar, engine.autocast():
        for places in group_rows(rows, tokens, engine):
            some = [rows[place] for place in places]
            batch = {name: one.to(model.device) for name, one in join_rows(some, engine).items()}
            hidden = hidden_states(model, batch["input_ids"], batch.get("position_ids"))  # (B, T, D)
            counts = [sum(target != IGNORED_TARGET for target in row[1]) for row in some]
            states = hidden[batch["targets"] != IGNORED_TARGET].cpu()
            found |= dict(zip(places, states.split(counts), strict=True))
            bar.update(len(places))
    return [found[place].clone() for place in range(len(rows))]
