"""The speedrun model: no token sees a later one, tables tell grams apart, a new model knows nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from configs import InputError
from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.rungs.speedrun import Speedrun, SpeedrunConfig, norm
from scratch_models.scratch_folder import load_scratch_model, save_scratch_model

CONFIG = SpeedrunConfig(vocabulary_size=11, block_size=12, layers=2, heads=2, width=16, zero_projections=False)
FINDS: list[dict[str, Any]] = [
    {},
    {"longest_gram": 1},
    {"table_rows": 7},
    {"value_tables": True, "residual_scalars": True},
    {"query_key_norm": False, "squared_relu": False},
]


def model_of(**changes: Any) -> Speedrun:
    torch.manual_seed(0)
    model = Speedrun(replace(CONFIG, **changes))
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("changes", FINDS)
def test_a_later_token_changes_no_earlier_logit(changes: dict[str, Any]) -> None:
    model, ids = model_of(**changes), torch.randint(11, (2, 12), generator=torch.Generator().manual_seed(1))
    before = model(ids)
    for place in range(12):
        changed = ids.clone()
        changed[:, place] = (changed[:, place] + 1) % 11
        after = model(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.allclose(after[:, place], before[:, place])


def test_every_pair_and_triple_has_a_row_where_there_are_enough() -> None:
    model = model_of()
    triples = torch.cartesian_prod(*[torch.arange(11)] * 3)  # (1331, 3)
    rows = model.gram_rows(triples, 3)[:, 2]
    assert rows.unique().numel() == 11**3
    assert model.gram_rows(triples, 2)[:, 1].unique().numel() == 11**2


def test_rows_are_shared_evenly_where_there_are_fewer() -> None:
    triples = torch.cartesian_prod(*[torch.arange(11)] * 3)
    counts = model_of(table_rows=64).gram_rows(triples, 3)[:, 2].bincount(minlength=64)
    assert counts.min() > 5
    assert counts.max() < 45  # 1,331 in 64 rows: 21 each


def test_a_new_model_gives_every_token_the_same_chance() -> None:
    ids = torch.randint(11, (2, 12))
    assert not Speedrun(replace(CONFIG, zero_projections=True))(ids).any()


@torch.no_grad()
def test_a_block_adds_what_the_papers_say() -> None:
    model, ids = model_of(value_tables=True, residual_scalars=True), torch.tensor([[3, 1, 4, 1, 5]])
    block: Any = model.blocks[0]
    stream, embedding, turns = torch.randn(1, 5, 16), torch.randn(1, 5, 16), torch.zeros(2, 5, 4)
    turns[0] = 1  # cosines of no angle: nothing turns
    mixed = block.mix[0] * stream + block.mix[1] * embedding
    normed = mixed / mixed.pow(2).mean(-1, keepdim=True).sqrt()
    heads = [(normed @ linear.weight.T).view(5, 2, 8).transpose(0, 1) for linear in (block.query, block.key)]
    values = (normed @ block.value.weight.T + block.value_share * block.value_table(ids)).view(5, 2, 8).transpose(0, 1)
    queries, keys = (head / head.pow(2).mean(-1, keepdim=True).sqrt() for head in heads)
    scores = (queries @ keys.mT / 8**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    mixed = mixed + (scores.softmax(-1) @ values).transpose(0, 1).reshape(1, 5, 16) @ block.projection.weight.T
    hidden = F.relu(norm(mixed) @ block.expand.weight.T) ** 2
    expected = mixed + hidden @ block.contract.weight.T
    torch.testing.assert_close(block(stream, embedding, ids, turns), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("changes", FINDS)
def test_a_saved_folder_opens_as_the_same_model(changes: dict[str, Any], tmp_path: Path) -> None:
    model, ids = model_of(**changes), torch.tensor([[3, 1, 4, 1, 5]])
    save_scratch_model(model, CharacterVocabulary("abcdefghijk"), tmp_path / "saved")
    opened, vocabulary = load_scratch_model(tmp_path / "saved")
    assert torch.equal(opened(ids), model(ids))
    assert vocabulary.encode("cab") == [2, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "width 16 is not an even multiple of heads 3"),
        ({"longest_gram": 4}, "longest_gram is 4, expected 1, 2 or 3"),
        ({"table_rows": 0}, "sizes of at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, **changes)
