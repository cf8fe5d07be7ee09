"""A served model as one to call: its weights where they are, its adapter applied, its modules its own.

What looks into a model sets how attention is computed and listens to layers. On the model in the pool that would reach
the replies under way, so it gets other modules around the same tensors; no weight is copied.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from finetune.decoding.linear_layers import Adapter, AdapterRows, LayerReader, LoraPart
from finetune.decoding.parts_of_models import read_parts
from finetune.serving.served_model import ServedModel
from scratch_models.decoding.block_decoder import Part


def own_forward(served: ServedModel) -> PreTrainedModel:
    """The model that a name stands for, its adapter too where that lies over a shared base."""
    model = served.side.model
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    twin = copy.deepcopy(model, shared)
    if served.adapter is not None:
        apply_adapter(twin, served.adapter)
    return twin


def apply_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Has the linear layers of a model add what an adapter adds; the model has none of its own."""
    reader = _ReadModules(lay_out=False, adapter_rows=AdapterRows())
    read_parts(model, reader)
    for modules, parts in zip(reader.modules, adapter.products, strict=True):
        start = 0
        for module in modules:
            stop = start + _outputs(module)
            for part in parts:
                if found := _within(part, start, stop):
                    module.register_forward_hook(_adding(*found))
            start = stop


@dataclass(frozen=True)
class _ReadModules(LayerReader):
    """Notes which modules are read as one product."""

    modules: list[tuple[nn.Module, ...]] = field(default_factory=list)

    def product(self, *modules: nn.Module) -> Part:
        self.modules.append(modules)
        return super().product(*modules)


def _within(part: LoraPart, start: int, stop: int) -> tuple[slice, LoraPart] | None:
    """What of an adapter's part falls on the outputs of one layer of a product, and on which of them."""
    first, last = max(part.start, start), min(part.stop, stop)
    if first >= last:
        return None
    up = part.up[first - part.start : last - part.start]
    return slice(first - start, last - start), LoraPart(first, last, part.down, up, part.scaling)


def _adding(outputs: slice, part: LoraPart) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = F.linear(F.linear(inputs[0], part.down), part.up) * part.scaling
        output = output.clone()
        output[..., outputs] += added
        return output

    return add


def _outputs(module: nn.Module) -> int:
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight.shape[0] if isinstance(module, nn.Linear) else weight.shape[1]  # Conv1D holds it turned
