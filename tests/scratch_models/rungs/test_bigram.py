import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from configs import InputError
from scratch_models.corpus.blocks import RandomBlocks, split_by_position
from scratch_models.corpus.text_files import read_text
from scratch_models.corpus.vocabulary import CharacterVocabulary
from scratch_models.rungs.bigram import BigramLanguageModel, bigram_of_counts
from tests.house.repository import ROOT

TINY_SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"


@pytest.fixture(scope="module")
def shakespeare() -> tuple[Tensor, Tensor]:
    if not TINY_SHAKESPEARE.is_file():
        pytest.skip("needs ../shared/data/tinyshakespeare.txt")
    text = read_text(TINY_SHAKESPEARE)
    return split_by_position(torch.tensor(CharacterVocabulary.from_text(text).encode(text)))


def counts_plus_one(ids: Tensor, vocabulary_size: int) -> Tensor:
    """Log probabilities (V, V) of the next id under the counts of pairs plus one (Laplace's rule of succession)."""
    pairs = ids[:-1] * vocabulary_size + ids[1:]
    counts = torch.bincount(pairs, minlength=vocabulary_size**2).view(vocabulary_size, vocabulary_size) + 1
    return (counts / counts.sum(dim=1, keepdim=True)).log()


def held_out_nats(model: BigramLanguageModel, ids: Tensor) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(model(ids[None, :-1])[0], ids[1:]))


def test_logits_are_the_row_of_the_last_token() -> None:
    model = BigramLanguageModel(5)
    logits = model(torch.tensor([[3, 1], [0, 4]]))
    assert logits.shape == (2, 2, 5)
    assert torch.equal(logits[1, 1], model.token_embedding_table.weight[4])


def test_a_table_of_log_probabilities_has_the_closed_form_loss(shakespeare: tuple[Tensor, Tensor]) -> None:
    training, held_out = shakespeare
    assert (len(training), len(held_out)) == (1_003_854, 111_540)
    table = counts_plus_one(training, 65)
    closed_form = -table[held_out[:-1], held_out[1:]].mean()
    model = bigram_of_counts(training, 65)
    torch.testing.assert_close(model.token_embedding_table.weight.detach(), table)
    assert held_out_nats(model, held_out) == pytest.approx(float(closed_form), abs=1e-4)
    assert float(closed_form) == pytest.approx(2.482, abs=1e-3)  # the figure of the project's own brief


@pytest.mark.long
def test_training_converges_to_the_counts_of_the_corpus(shakespeare: tuple[Tensor, Tensor]) -> None:
    training, held_out = shakespeare
    blocks = RandomBlocks(training, block_size=64, blocks_per_batch=256, seed=0)
    torch.manual_seed(0)
    model = BigramLanguageModel(65)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    steps = 300
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / steps)
        (batch,) = blocks.micro_batches(step, rank=0, world_size=1)
        optimizer.zero_grad()
        F.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["targets"].flatten()).backward()
        optimizer.step()
    closed_form = -counts_plus_one(training, 65)[held_out[:-1], held_out[1:]].mean()
    assert held_out_nats(model, held_out) == pytest.approx(float(closed_form), abs=0.02)


def test_an_untrained_model_knows_little_more_than_chance() -> None:
    torch.manual_seed(0)
    ids = torch.randint(65, (5000,))
    assert held_out_nats(BigramLanguageModel(65), ids) == pytest.approx(math.log(65) + 0.5, abs=0.1)  # N(0, 1) logits


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="vocabulary_size of at least 1, got 0"):
        BigramLanguageModel(0)
