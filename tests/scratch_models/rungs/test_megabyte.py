from typing import Any

import pytest
import torch
from torch import Tensor

from configs import InputError
from scratch_models.decoding.generation import generate
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.rungs.megabyte import Megabyte, MegabyteConfig

SHAPE: dict[str, Any] = {
    "vocabulary_size": 256,
    "block_size": 24,
    "patch_size": 4,
    "layers": 2,
    "heads": 2,
    "width": 32,
    "local_layers": 2,
    "local_width": 12,
}


def seeded(**fields: Any) -> Megabyte:
    """A model in double precision with weights of a trained one's size, so that everything in it matters."""
    model = Megabyte(MegabyteConfig(**{**SHAPE, **fields})).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def random_bytes(rows: int, tokens: int) -> Tensor:
    return torch.randint(256, (rows, tokens), generator=torch.Generator().manual_seed(1))


def patch_by_patch(model: Megabyte, ids: Tensor) -> Tensor:
    """The logits of one row (T, V), each patch computed from the row as it stands before it."""
    P = model.config.patch_size
    logits = []
    for start in range(0, len(ids), P):
        read: list[Tensor] = [model.before_all]
        for end in range(P, start + 1, P):
            positions = torch.arange(end - P, end)
            embedded = model.global_embedding_table(ids[end - P : end]) + model.position_embedding_table(positions)
            read.append(embedded.flatten())
        before = model.global_model(torch.stack(read)[None])[0, -1]  # (D): the newest patch alone
        for place in range(min(P, len(ids) - start)):
            said = before.view(P, -1)[: place + 1]
            stream = model.token_embedding_table(ids[start : start + place + 1]) + model.to_local(said)
            logits.append(model.lm_head(model.local_model(stream[None])[0, -1]))
    return torch.stack(logits)


@torch.no_grad()
@pytest.mark.parametrize("tokens", [24, 20, 7, 4, 1])
@pytest.mark.parametrize("patch_size", [1, 4, 8])
def test_a_row_at_once_gives_the_logits_of_a_loop_over_its_patches(tokens: int, patch_size: int) -> None:
    model, ids = seeded(patch_size=patch_size), random_bytes(3, tokens)
    expected = torch.stack([patch_by_patch(model, row) for row in ids])
    assert expected.std() > 0.1
    torch.testing.assert_close(model(ids), expected, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("place", range(24))
def test_a_byte_changes_every_logit_from_its_place_on_and_none_before(place: int) -> None:
    model, ids = seeded(), random_bytes(2, 24)
    changed = ids.clone()
    changed[:, place] = (changed[:, place] + 1) % 256
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert ((before[:, place:] - after[:, place:]).abs().amax(dim=-1) > 1e-9).all()


@torch.no_grad()
def test_what_is_generated_is_what_the_row_at_once_finds_likeliest() -> None:
    model, prompt = seeded(), random_bytes(1, 5)[0].tolist()
    ids = [*prompt, *generate(model, prompt, 19, Sampling(temperature=0))]
    likeliest = model(torch.tensor([ids]))[0].argmax(dim=-1)
    assert ids[5:] == likeliest[4:-1].tolist()
    assert len(list(generate(model, prompt, 40, Sampling(seed=1)))) == 40  # longer than the block


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_size": 5}, "block_size 24 is not a multiple of patch_size 5"),
        ({"patch_size": 3}, "width 32 is not a multiple of patch_size 3"),
        ({"heads": 5}, "width 32 is not a multiple of heads 5"),
        ({"heads": 8}, "local_width 12 is not a multiple of heads 8"),
        ({"patch_size": 0}, "sizes of at least 1"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MegabyteConfig(**{**SHAPE, **fields})


def test_a_row_longer_than_a_block_is_refused() -> None:
    with pytest.raises(InputError, match="25 tokens do not fit the model's 24 positions"):
        seeded()(random_bytes(1, 25))
