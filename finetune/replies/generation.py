"""Replies of Hugging Face causal models, adapters included.

A reply depends on its own prompt, the seed and the number of its row, not on the other rows of its batch. It ends at a
stop id, which is no part of it, after `max_new_tokens`, or where the model has no position left. With a calculator,
what it gives is part of the reply and counts as tokens of it.
"""

import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import KW_ONLY, dataclass

from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from configs import InputError
from finetune.decoding.decoders import decoder_for, decodes_by_parts
from finetune.replies.calculator_decoding import ReplyCalculator
from scratch_models.decoding.rows import Ends, decode
from scratch_models.decoding.sampling_settings import Sampling
from tokenizer_ext.huggingface.hf_model import positions_of
from tokenizer_ext.pages.progress import progress

ROWS_AT_ONCE = 32  # questions that are answered together


@dataclass(frozen=True)
class Reply:
    """The generated ids without the stop id, and whether a stop id ended them."""

    ids: tuple[int, ...]
    stopped: bool


def generate_ids(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
    sampling: Sampling,
    pad_id: int = 0,
    rows_per_batch: int = ROWS_AT_ONCE,
    calculator: ReplyCalculator | None = None,
) -> list[Reply]:
    """The reply to each prompt, in the order of the prompts.

    Prompts of like length share a batch. Greedy ids equal those of ``model.generate(do_sample=False)``, up to the first
    result of a calculator.

    Raises:
        InputError: a prompt is empty, or leaves the model no position for a reply.
    """
    asked = _Asked(
        model,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        sampling=sampling,
        pad_id=pad_id,
        rows_per_batch=rows_per_batch,
        calculator=calculator,
    )
    return asked.reply(prompts)


def generate_beside_base(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    base_prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
    sampling: Sampling,
    rows_per_batch: int = ROWS_AT_ONCE,
) -> tuple[list[Reply], list[Reply]]:
    """The replies of a model with adapters to its prompts, and of the base under them to its own, under the same noise.

    Where the model decodes by parts both go on in one batch, which reads every weight once for the two of them;
    otherwise the base is asked after the other. A base prompt has the noise of the prompt with its number.

    Raises:
        InputError: a prompt is empty, or leaves the model no position for a reply.
    """
    asked = _Asked(
        model, max_new_tokens=max_new_tokens, stop_ids=stop_ids, sampling=sampling, rows_per_batch=rows_per_batch
    )
    if decodes_by_parts(model, lay_out=not model.training):
        together = asked.reply([*prompts, *base_prompts], base_from=len(prompts))
        return together[: len(prompts)], together[len(prompts) :]
    replies = asked.reply(prompts)
    with _without_adapters(model):
        return replies, asked.reply(base_prompts)


@dataclass(frozen=True)
class _Asked:
    """A model, and how it is asked."""

    model: PreTrainedModel
    _: KW_ONLY
    max_new_tokens: int
    stop_ids: Collection[int]
    sampling: Sampling
    rows_per_batch: int
    pad_id: int = 0
    calculator: ReplyCalculator | None = None

    def reply(self, prompts: Sequence[Sequence[int]], base_from: int | None = None) -> list[Reply]:
        """The reply to each prompt; from `base_from` on those of the model without its adapters."""
        limits = [_room(self.model, prompt, self.max_new_tokens) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        ids: dict[int, list[int]] = {row: [] for row in order}
        ends = Ends(limits=dict(enumerate(limits)), stop_ids=self.stop_ids)
        with progress("replies", len(prompts), "questions") as bar:
            for start in range(0, len(order), self.rows_per_batch):
                rows = {row: prompts[row] for row in order[start : start + self.rows_per_batch]}
                for chosen in self.decode(rows, ends, base_from):
                    for row, token in chosen.items():
                        ids[row].append(token)
                    bar.set_postfix_str(f"{sum(map(len, ids.values())):,} tokens", refresh=False)
                    bar.update(sum(ends.reached(row, token, len(ids[row])) for row, token in chosen.items()))
        return [_reply(ids[row], self.stop_ids) for row in range(len(prompts))]

    def decode(
        self, prompts: Mapping[int, Sequence[int]], ends: Ends, base_from: int | None = None
    ) -> Generator[dict[int, int]]:
        """Step by step, the ids of the rows that still speak, by row number."""
        model, calculator = self.model, self.calculator
        listeners = {row: calculator.listen() for row in prompts} if calculator else {}
        base_rows = () if base_from is None else [row for row in prompts if row >= base_from]
        # While a model trains its weights change from one evaluation to the next, and memory is short: no copies then.
        lay_out = not model.training
        with _in_evaluation(model):
            yield from decode(
                decoder_for(model, lay_out=lay_out, base_rows=base_rows),
                prompts,
                ends=ends,
                sampling=self.sampling,
                device=next(model.parameters()).device,
                pad_id=self.pad_id,
                heard=(lambda row, token: listeners[row].next_id(token)) if listeners else None,
                noise_row=lambda row: row if base_from is None else row % base_from,
            )


def stream_reply(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
    sampling: Sampling,
    stop: threading.Event | None = None,
    calculator: ReplyCalculator | None = None,
) -> Generator[int, None, Reply]:
    """The ids of one reply as they come, the same as those of `generate_ids`; the generator returns the whole `Reply`.

    `stop` is looked at before every id, so a set event costs at most the one under way.

    Raises:
        InputError: the prompt is empty, or leaves the model no position for a reply.
    """
    ends = Ends(limits={0: _room(model, prompt, max_new_tokens)}, stop_ids=stop_ids)
    ids: list[int] = []
    asked = _Asked(
        model,
        max_new_tokens=max_new_tokens,
        stop_ids=stop_ids,
        sampling=sampling,
        rows_per_batch=1,
        calculator=calculator,
    )
    steps = asked.decode({0: prompt}, ends)
    with closing(steps):
        while not (stop and stop.is_set()) and (chosen := next(steps, None)):
            ids.append(chosen[0])
            if chosen[0] not in stop_ids:
                yield chosen[0]
    return _reply(ids, stop_ids)


def _reply(ids: list[int], stop_ids: Collection[int]) -> Reply:
    stopped = bool(ids) and ids[-1] in stop_ids
    return Reply(ids=tuple(ids[:-1] if stopped else ids), stopped=stopped)


def _room(model: PreTrainedModel, prompt: Sequence[int], max_new_tokens: int) -> int:
    """How many ids the reply may have: with its prompt it has to fit the model's positions."""
    if not prompt:
        raise InputError("prompt: found 0 tokens, expected at least one")
    positions = positions_of(model) or len(prompt) + max_new_tokens
    if len(prompt) >= positions:
        raise InputError(
            f"prompt: found {len(prompt):,} tokens, the model has {positions:,} positions for prompt and "
            "reply together; shorten the prompt"
        )
    return min(max_new_tokens, positions - len(prompt))


@contextmanager
def _in_evaluation(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off while replies are generated in the middle of training."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _without_adapters(model: PreTrainedModel) -> Iterator[None]:
    """The base that the adapters are attached to."""
    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer) and not layer.disable_adapters]
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)
