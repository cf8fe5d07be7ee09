"""How much of a base that is read by slices is whole at once while a step is computed, counted in two processes."""

from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.sliced.sliced_base import open_sliced, train_in_slices
from finetune.supervised.settings import SftSettings
from scratch_models.loop.devices import make_accelerator
from scratch_models.sharded.gathered_once import ReleasedAllGather
from tests.finetune.extended_models import save_base
from tests.reliability.forked_ranks import run_ranks
from tokenizer_ext.extension.extension import extend_vocabulary
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer


def count_whole(base: Path, method: Literal["lora", "full"], rank: int) -> None:
    """What fails here fails the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = make_accelerator("fp32")
    settings = SftSettings(base=str(base), data="unread.jsonl", lora_rank=4, method=method)
    opened = open_sliced(settings.base, settings, accelerator, settings.chat)
    assert opened is not None
    trainable, sliced = train_in_slices(opened, settings, accelerator)
    model, alone = trainable.model.train(), load_model(str(base)).train()
    layers = [layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and "lora_" not in name]
    layers.remove(model.get_output_embeddings())
    whole: list[int] = []

    def note(*_: object) -> None:
        whole.append(sum(not isinstance(layer.weight, DTensor) for layer in layers))

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    for one in (model, alone):
        one.gradient_checkpointing_enable({"use_reentrant": False})
        hidden: Tensor = one.base_model(input_ids=ids).last_hidden_state
        hidden.square().mean().backward()
    assert len(whole) == 2 * len(layers) > 10, "once forward, once more for the gradients"
    # The matrix whose gradient asks for the block to be computed once more is whole meanwhile, where it trains.
    assert max(whole) == (1 if method == "lora" else 2)
    trained = {name: one for name, one in model.base_model.named_parameters() if one.requires_grad}
    gradients = {name: one.grad for name, one in trained.items()}
    assert all(isinstance(one, DTensor) for one in gradients.values())
    expected = dict(alone.base_model.named_parameters()) if method == "full" else {}
    for name, parameter in expected.items():
        torch.testing.assert_close(gradients[name].full_tensor(), parameter.grad, msg=name)  # type: ignore[union-attr]
    for handle in handles:
        handle.remove()
    sliced.leave()
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_one_matrix_is_whole_at_a_time_also_when_a_block_is_computed_once_more(method, tmp_path: Path):
    plain = str(save_base("llama", tmp_path / "plain"))
    known = extend_vocabulary((load_model(plain), load_tokenizer(plain)), control_tokens=list(CONTROL_TOKENS))
    base = known.save(tmp_path / "base")
    statuses = run_ranks(partial(count_whole, base, method), tmp_path / "logs", sharded=True, seconds=90)
    assert statuses == [0, 0], [path.read_text()[-3000:] for path in sorted((tmp_path / "logs").iterdir())]


def test_memory_that_was_gathered_into_is_given_back_though_it_is_referred_to():
    gather = ReleasedAllGather()
    kept = gather.allocate((10,), dtype=torch.float32, device=torch.device("cpu"))
    assert kept.untyped_storage().nbytes() == 40
    gather.allocate((5,), dtype=torch.float32, device=torch.device("cpu"))
    assert kept.untyped_storage().nbytes() == 0
