"""Text continued by a scratch model, id by id.

Shapes: T tokens of a row, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from configs import InputError
from scratch_models.decoding.sampling import next_ids, row_generator
from scratch_models.decoding.sampling_settings import Sampling
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, KeyValueCache
from scratch_models.rungs.llama import Llama
from scratch_models.rungs.megabyte import Megabyte
from scratch_models.rungs.one_layer import OneLayerModel


@torch.no_grad()
def generate(
    model: GPT | BigramLanguageModel | OneLayerModel | Llama | Megabyte,
    input_ids: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
) -> Iterator[int]:
    """Ids that continue `input_ids`, one at a time; a model with a block size reads at most so many of the last.

    The model is left in evaluation mode.

    Raises:
        InputError: `input_ids` is empty, or the model's logits are broken.
    """
    if not input_ids:
        raise InputError("nothing to continue: pass a prompt of at least one token")
    model.eval()
    read_logits = _GPTReader(model) if isinstance(model, GPT) else _window_reader(model)
    generators = [row_generator(sampling)]
    ids = list(input_ids)
    for _ in range(max_new_tokens):
        ids.append(int(next_ids(read_logits(ids), sampling, generators)))
        yield ids[-1]


class _GPTReader:
    """Logits after all ids so far; the ids that the cache holds are not read again."""

    def __init__(self, model: GPT) -> None:
        self.model = model
        weight = model.position_embedding_table.weight
        self.device = weight.device
        self.cache = KeyValueCache(model.config, rows=1, device=weight.device, dtype=weight.dtype)

    def __call__(self, ids: list[int]) -> Tensor:
        block_size = self.model.config.block_size
        if len(ids) > block_size:
            # Positions are learned and absolute: once the window moves, every key and value in the cache is stale.
            ids = ids[-block_size:]
            self.cache.length = 0
        unread = torch.tensor([ids[self.cache.length :]], device=self.device)  # (1, T)
        last = self.model.hidden_states(unread, self.cache)[:, -1]  # (1, D)
        logits: Tensor = self.model.lm_head(last)  # (1, V)
        return logits


def _window_reader(model: BigramLanguageModel | OneLayerModel | Llama | Megabyte) -> Callable[[list[int]], Tensor]:
    """Logits after all ids so far, of a model that keeps nothing: what it can see is read anew for each id."""
    device = next(model.parameters()).device
    window = 1 if isinstance(model, BigramLanguageModel) else model.config.block_size

    def read_logits(ids: list[int]) -> Tensor:
        logits: Tensor = model(torch.tensor([ids[-window:]], device=device))[:, -1]  # (1, V)
        return logits

    return read_logits
