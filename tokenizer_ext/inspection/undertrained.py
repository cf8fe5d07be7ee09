"""Which rows of a model look as if no text had trained them.

After Land and Bartolo 2024, "Fishing for Magikarp" (arXiv 2405.05417), without a list of unused ids: the reference is
found in every byte-level vocabulary. Bytes that UTF-8 never uses, and rows without a token, stood in no text.

A row whose token never occurs is its start, which weight decay shrinks, plus what all such rows get alike: as a row of
the head it is pushed away from every hidden state, always the same way. So what is left of it beside that common
direction is short. The measure of a row is the length of this rest, as a share of the median over the tokens asked
about; for an untied model it is the geometric mean of both tables' shares.

Shapes: R rows of a table, D width, A rows that nothing trained.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.inspection.token_kinds import UNUSED_BYTES

WORST_SHARE = 0.02
SMALLEST_REFERENCE = 0.01  # rows that weight decay took to nothing would flag only what went as far


@dataclass(frozen=True, kw_only=True)
class UnderTrained:
    """The tokens with the shortest rests, and the rows that they are held against."""

    worst: Sequence[tuple[int, float]]
    """The worst 2 % of the tokens asked about, with their measure, the shortest first."""
    flagged: Sequence[int]
    """The tokens that measure less than `threshold`."""
    threshold: float
    """Halfway, in ratio, from the rows that nothing trained to the median token, which measures 1."""
    reference: float
    """The median measure of the rows that nothing trained, zeros left out; near 1 where they look like all others."""
    reference_rows: int
    """How many those are."""

    @property
    def is_distinct(self) -> bool:
        """Whether rows that nothing trained can be told from others at all."""
        return self.reference_rows > 0 and self.reference < 0.7


def find_undertrained(model: nn.Module, tokens: Iterable[int], untrained: Sequence[Sequence[int]]) -> UnderTrained:
    """The under-trained among `tokens`.

    Args:
        model: A causal model.
        tokens: The ids asked about; a corpus could hold each of them.
        untrained: Groups of ids that nothing trained, as `untrained_groups` finds them.

    """
    asked, known = sorted(tokens), sorted(id_ for group in untrained for id_ in group)
    measure = measure_rows(model, asked, untrained)  # (R)
    order = measure[asked].argsort()[: max(1, round(WORST_SHARE * len(asked)))]
    held = measure[known]
    reference = float(held[held > 0].median()) if held.any() else 0.0  # zeros are padding that was never filled
    threshold = max(reference, SMALLEST_REFERENCE) ** 0.5
    return UnderTrained(
        worst=[(asked[place], float(measure[asked[place]])) for place in order.tolist()],
        flagged=[id_ for id_, measured in zip(asked, measure[asked].tolist(), strict=True) if measured < threshold],
        threshold=threshold,
        reference=reference,
        reference_rows=len(known),
    )


def untrained_groups(bytes_of_id: Mapping[int, bytes], rows: int) -> list[list[int]]:
    r"""The ids that no text can have trained: bytes that UTF-8 never uses, and rows without a token.

    >>> untrained_groups({0: b"a", 1: b"\xc0", 2: b"\xff"}, rows=5)
    [[1, 2], [3, 4]]
    """
    unused = {bytes([byte]) for byte in UNUSED_BYTES}
    groups = [
        [id_ for id_, token in bytes_of_id.items() if token in unused],
        [id_ for id_ in range(rows) if id_ not in bytes_of_id],
    ]
    return [group for group in groups if group]


@torch.no_grad()
def measure_rows(model: nn.Module, asked: Sequence[int], untrained: Sequence[Sequence[int]]) -> Tensor:
    """The measure of every row: (R)."""
    tables = find_tables(model)
    weights = [tables.embedding.weight]
    if tables.head is not None and not tables.tied:
        weights.append(tables.head.weight)
    shares = []
    for weight in weights:
        rests = _rests(weight.float(), untrained)  # (R)
        shares.append(rests / rests[list(asked)].median().clamp_min(1e-30))
    return torch.stack(shares).log().mean(dim=0).exp()  # (R)


def _rests(rows: Tensor, untrained: Sequence[Sequence[int]]) -> Tensor:
    """The length of each row beside the means of the untrained groups, the whole where there is none: (R, D) -> (R)."""
    if not untrained:
        return rows.norm(dim=1)
    means = torch.stack([rows[list(group)].mean(dim=0) for group in untrained])  # (groups, D)
    common, _ = torch.linalg.qr(means.T)  # (D, groups)
    return (rows - (rows @ common) @ common.T).norm(dim=1)
