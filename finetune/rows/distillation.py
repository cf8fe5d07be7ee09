"""New rows that read and score a text as the frozen base does: a short training before the training.

The base reads a text in its own ids, the model under training reads it with new tokens, and both end every token of the
second reading at the same character. There each is asked for the same:

    input rows     the hidden state of the base, from the first new token of a row on: squared difference, as a share
                   of the squared length (Dobler and de Melo 2025, "Token Distillation", arXiv 2505.20133)
    output rows    the log-probability of a new token, which should be the sum of those that the base gives its parts
                   one after the other: squared difference in nats

Nothing is learned of the text itself, so no text of the domain is needed in which the tokens are well used.

Shapes: B rows, T tokens of a row in extended ids, A aligned places, P places before a new token, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from configs.disk_space import temporary_folder
from finetune.losses.token_losses import token_losses
from finetune.rows.base_reading import Parts, old_log_probabilities, old_segment, read_ids
from scratch_models.loop.loop_settings import LoopSettings
from scratch_models.loop.micro_batches import SUPERVISED_TOKENS, Batches, Unit, count_targets
from scratch_models.loop.run_folder import RunFolder
from scratch_models.loop.training import train
from tokenizer_ext.huggingface.hf_model import positions_of


def distill_rows(
    model: PreTrainedModel,
    parts: Parts,
    batches: Batches,
    optimizer: Optimizer,
    settings: LoopSettings,
    accelerator: Accelerator,
) -> None:
    """Trains the new rows, in place, for as many steps as the settings say."""
    loss_model = DistillationLoss(model, parts).to(accelerator.device)
    with temporary_folder() as folder:  # its losses are of no use to anyone
        train(
            loss_model,
            batches,
            [optimizer],
            settings.rehearsal(steps=settings.max_steps),
            accelerator=accelerator,
            run=RunFolder(folder),
            evaluate=lambda _step: {},
            unit=Unit(SUPERVISED_TOKENS.name, count_targets),
        )


class DistillationLoss(nn.Module):
    """What the training loop trains: the disagreement with the base, summed over the places of a micro-batch."""

    def __init__(self, model: PreTrainedModel, parts: Parts) -> None:
        super().__init__()
        self.model, self.parts = model, parts
        self.first_new_id = model.get_input_embeddings().first_new_id
        self.positions = positions_of(model)

    def train(self, mode: bool = True) -> "DistillationLoss":
        """Stays in evaluation: what the base makes of a text holds no dropout, so neither does what is compared."""
        del mode
        return super().train(False)

    def forward(self, input_ids: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Squared differences, summed: two of (B, T) -> (); how much a target counts does not matter to them."""
        del weights
        rows = [
            Alignment.of(read_ids(ids, of_ids), self.parts, self.positions)
            for ids, of_ids in zip(input_ids.tolist(), targets.tolist(), strict=True)
        ]
        with torch.no_grad():
            taught = self._hidden([row.base for row in rows], input_ids.device)
        learned = self._hidden([row.ids for row in rows], input_ids.device)
        return self._of_hidden(rows, learned, taught) + self._of_scores(rows, learned, taught)

    def _hidden(self, rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)  # (B, T)
        hidden: Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # (B, T, D)
        return hidden

    def _of_hidden(self, rows: Sequence["Alignment"], learned: Tensor, taught: Tensor) -> Tensor:
        places = [(number, place, row.ends[place]) for number, row in enumerate(rows) for place in row.after_new]
        at, here, there = _columns(places, 3, learned.device)  # (A) each
        wanted = taught[at, there].float()  # (A, D)
        differences = (learned[at, here].float() - wanted).square().sum(dim=-1)  # (A)
        return (differences / wanted.square().sum(dim=-1)).sum()

    def _of_scores(self, rows: Sequence["Alignment"], learned: Tensor, taught: Tensor) -> Tensor:
        before_new = [(number, place) for number, row in enumerate(rows) for place in row.before_new]
        at, here = _columns(before_new, 2, learned.device)  # (P) each
        tokens = torch.tensor([rows[number].ids[place + 1] for number, place in before_new], device=learned.device)
        scores = -token_losses(self.model.get_output_embeddings(), learned[at, here], tokens.long())  # (P)
        return (scores - self._scores_of_parts(rows, before_new, taught)).square().sum()

    @torch.no_grad()
    def _scores_of_parts(
        self, rows: Sequence["Alignment"], before_new: Sequence[tuple[int, int]], taught: Tensor
    ) -> Tensor:
        """The base's log-probability of all parts of each new token, (P)."""
        asked = [
            (which, number, rows[number].ends[place] + offset, part)
            for which, (number, place) in enumerate(before_new)
            for offset, part in enumerate(self.parts[rows[number].ids[place + 1]])
        ]
        which, at, there, part = _columns(asked, 4, taught.device)
        sums = torch.zeros(len(before_new), device=taught.device)
        if asked:
            of_parts = old_log_probabilities(old_segment(self.model, self.first_new_id), taught[at, there], part)
            sums.index_add_(0, which, of_parts)
        return sums


@dataclass(frozen=True)
class Alignment:
    """One text in extended ids and in the base's."""

    ids: list[int]
    base: list[int]
    ends: list[int]
    """Where in `base` each of `ids` ends."""
    after_new: range
    """Places in `ids` from the first token on that has parts."""
    before_new: list[int]
    """Places in `ids` that are followed by one."""

    @classmethod
    def of(cls, ids: Sequence[int], parts: Parts, longest: int | None = None) -> "Alignment":
        """The alignment of as many ids as the base can read in `longest` of its own.

        >>> Alignment.of([1, 9, 2], {9: [4, 5]})
        Alignment(ids=[1, 9, 2], base=[1, 4, 5, 2], ends=[0, 2, 3], after_new=range(1, 3), before_new=[0])
        """
        base: list[int] = []
        ends: list[int] = []
        for id_ in ids:
            of_id = parts.get(id_, (id_,))
            if longest is not None and len(base) + len(of_id) > longest:
                break
            base += of_id
            ends.append(len(base) - 1)
        kept = list(ids[: len(ends)])
        first = next((place for place, id_ in enumerate(kept) if id_ in parts), len(kept))
        before_new = [place for place, id_ in enumerate(kept[1:]) if id_ in parts]
        return cls(kept, base, ends, range(first, len(kept)), before_new)


def _columns(rows: Sequence[tuple[int, ...]], width: int, device: torch.device) -> tuple[Tensor, ...]:
    return torch.tensor(rows, dtype=torch.long, device=device).view(-1, width).unbind(dim=1)
