"""Replies of Hugging Face causal models, adapters included.

A reply depends on its own prompt, the seed and the number of its row, not on the other rows of its batch. It ends at a
stop id, which is no part of it, after `max_new_tokens`, or where the model has no position left. With a calculator,
what it gives is part of the reply and counts as tokens of it.
"""

import threading
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

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
    end_id: int | None = field(default=None, compare=False)
    """The stop id that ended them."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Prompts that are put to a model alike."""

    prompts: Sequence[Sequence[int]]
    stop_ids: Collection[int]
    calculator: ReplyCalculator | None = None
    of_base: bool = False
    """Whether the base under the model's adapters answers."""


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
    asked = Asked(prompts=prompts, stop_ids=stop_ids, calculator=calculator)
    return Rows(model, [asked], max_new_tokens, sampling, pad_id).reply(rows_per_batch)


def generate_together(
    model: PreTrainedModel,
    asked: Sequence[Asked],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    rows_per_batch: int = ROWS_AT_ONCE,
) -> list[list[Reply]]:
    """The replies to the prompts of each asking; those with the same number have the same noise.

    Where the model decodes by parts all go on in one batch, base and adapters too, which reads every weight once for
    the two of them; otherwise the base is asked after the others.

    Raises:
        InputError: a prompt is empty, or leaves the model no position for a reply.
    """
    if not any(one.of_base for one in asked) or decodes_by_parts(model, lay_out=not model.training):
        replies = iter(Rows(model, asked, max_new_tokens, sampling).reply(rows_per_batch))
        return [[next(replies) for _ in one.prompts] for one in asked]
    found = []
    for one in asked:
        with without_adapters(model) if one.of_base else nullcontext():
            alone = replace(one, of_base=False)
            found.append(Rows(model, [alone], max_new_tokens, sampling).reply(rows_per_batch))
    return found


class Rows:
    """Prompts as rows of batches, numbered through from the first asking to the last."""

    def __init__(
        self, model: PreTrainedModel, asked: Sequence[Asked], max_new_tokens: int, sampling: Sampling, pad_id: int = 0
    ) -> None:
        self.model, self.sampling, self.pad_id = model, sampling, pad_id
        self.asked = [one for one in asked for _ in one.prompts]
        self.numbers = [number for one in asked for number in range(len(one.prompts))]
        self.prompts = [prompt for one in asked for prompt in one.prompts]
        self.ends = Ends(
            limits={row: reply_room(model, prompt, max_new_tokens) for row, prompt in enumerate(self.prompts)},
            stop_ids={row: one.stop_ids for row, one in enumerate(self.asked)},
        )

    def reply(self, rows_per_batch: int) -> list[Reply]:
        """The reply to each prompt."""
        order = sorted(range(len(self.prompts)), key=lambda row: len(self.prompts[row]))
        ids: dict[int, list[int]] = {row: [] for row in order}
        with progress("replies", len(order), "questions") as bar:
            for start in range(0, len(order), rows_per_batch):
                for chosen in self.decode(order[start : start + rows_per_batch]):
                    for row, token in chosen.items():
                        ids[row].append(token)
                    bar.set_postfix_str(f"{sum(map(len, ids.values())):,} tokens", refresh=False)
                    bar.update(sum(self.ends.reached(row, token, len(ids[row])) for row, token in chosen.items()))
        return [self.whole(row, ids[row]) for row in range(len(order))]

    def decode(self, rows: Sequence[int]) -> Generator[dict[int, int]]:
        """Step by step, the ids of those of the rows that still speak, by row number."""
        model = self.model
        calculators = {row: self.asked[row].calculator for row in rows}
        listeners = {row: calculator.listen() for row, calculator in calculators.items() if calculator}
        # While a model trains its weights change from one evaluation to the next, and memory is short: no copies then.
        lay_out = not model.training

        def hear(row: int, token: int) -> int:
            return listeners[row].next_id(token) if row in listeners else token

        with _in_evaluation(model):
            yield from decode(
                decoder_for(model, lay_out=lay_out, base_rows=[row for row in rows if self.asked[row].of_base]),
                {row: self.prompts[row] for row in rows},
                ends=self.ends,
                sampling=self.sampling,
                device=next(model.parameters()).device,
                pad_id=self.pad_id,
                heard=hear if listeners else None,
                noise_row=lambda row: self.numbers[row],
            )

    def whole(self, row: int, ids: Sequence[int]) -> Reply:
        """The reply of a row that these ids were generated for."""
        stopped = bool(ids) and ids[-1] in self.asked[row].stop_ids
        return Reply(tuple(ids[:-1] if stopped else ids), stopped, ids[-1] if stopped else None)


def stream_reply(
    model: PreTrainedModel,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int],
    sampling: Sampling,
    stop: threading.Event | None = None,
    calculator: ReplyCalculator | None = None,
    of_base: bool = False,
) -> Generator[int, None, Reply]:
    """The ids of one reply as they come, the same as those of `generate_ids`; the generator returns the whole `Reply`.

    `stop` is looked at before every id, so a set event costs at most the one under way.

    Raises:
        InputError: the prompt is empty, or leaves the model no position for a reply.
    """
    asked = Asked(prompts=[prompt], stop_ids=stop_ids, calculator=calculator, of_base=of_base)
    rows, ids = Rows(model, [asked], max_new_tokens, sampling), list[int]()
    with closing(rows.decode([0])) as steps:
        while not (stop and stop.is_set()) and (chosen := next(steps, None)):
            ids.append(chosen[0])
            if chosen[0] not in stop_ids:
                yield chosen[0]
    return rows.whole(0, ids)


def reply_room(model: PreTrainedModel, prompt: Sequence[int], max_new_tokens: int) -> int:
    """How many ids the reply may have: with its prompt it has to fit the model's positions.

    Raises:
        InputError: the prompt is empty, or leaves no position.

    """
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
def without_adapters(model: PreTrainedModel) -> Iterator[None]:
    """The base that the adapters are attached to."""
    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer) and not layer.disable_adapters]
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)
