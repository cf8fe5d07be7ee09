"""What decodes for a Hugging Face model: parts of our own where they compute what it computes, else its own forward.

Parts are read once for a model and again when a weight has changed. Before they decode they read a few ids beside the
model itself: where the logits differ by more than rounding, the model decodes through its own forward.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import psutil
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import DynamicCache, PreTrainedModel

from finetune.decoding.linear_layers import Adapter, AdapterRows, LayerReader, NotReadable
from finetune.decoding.parts_of_models import read_parts
from scratch_models.decoding.block_decoder import BlockDecoder, DecoderParts
from scratch_models.decoding.rows import Decoder
from scratch_models.sharded.in_step import from_main_process

FIRST_ROOM = 256
"""Ids beyond the prompt that the cache has room for at first."""
SHARE_OF_FREE_MEMORY = 0.25
"""Of what is free, copies of weights may take so much."""
MOST_DIFFERENCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""How far logits may lie from the model's own, as a share of the largest: far more than rounding, far less than an
error in what is computed."""
FIRST_ID, ID_STEP = 1000, 7919
"""Of the ids that they are compared on."""


class AdapterDecoder(BlockDecoder):
    """A decoder in whose batch some rows go through the adapters and the others do not."""

    def __init__(self, parts: DecoderParts, room: int, read: "ReadModel", adapted: Tensor) -> None:
        """Takes which rows are `adapted`, (B) of booleans."""
        super().__init__(parts, len(adapted), room)
        self.adapter_rows, self.own, self.adapted = read.adapter_rows, read.own, adapted

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row: (B, T) -> (B, V)."""
        self.adapter_rows.chosen = [(self.own, self.adapted.nonzero().flatten())]
        try:
            return super().read(input_ids, positions, mask)
        finally:
            self.adapter_rows.chosen = None

    def keep_rows(self, kept: Tensor) -> None:
        """Forgets every row but these."""
        super().keep_rows(kept)
        self.adapted = self.adapted[kept]


class OwnForward:
    """The model's own forward, with the cache of transformers."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.config)

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row: (B, T) -> (B, V)."""
        logits: Tensor = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def keep_rows(self, kept: Tensor) -> None:
        """Forgets every row but these."""
        self.cache.batch_select_indices(kept)


class SpreadForward(OwnForward):
    """The same of a model that is spread over processes, which all read the same ids, and get the same logits."""

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row: (B, T) -> (B, V)."""
        # What FSDP brings together in inference mode could never be trained again.
        with torch.inference_mode(False), torch.no_grad():
            return from_main_process(super().read(input_ids, positions, mask))


@dataclass
class ReadModel:
    """What was read of a model, and the state of it that this holds for."""

    state: tuple[object, ...]
    parts: DecoderParts | None
    why_not: str = ""
    adapter_rows: AdapterRows = field(default_factory=AdapterRows)
    own: Adapter = field(default_factory=lambda: Adapter(()))
    """The model's own adapter; it adds nothing where there is none."""


_READ: WeakKeyDictionary[nn.Module, ReadModel] = WeakKeyDictionary()
_READING = threading.Lock()


def decoder_for(
    model: PreTrainedModel, *, lay_out: bool, base_rows: Collection[int] = ()
) -> Callable[[Sequence[int], int], Decoder]:
    """What makes a decoder from the numbers of the rows and the ids of the longest prompt; call it in inference mode.

    Args:
        model: In evaluation mode.
        lay_out: Whether weights may be copied into a layout that is read faster, where memory allows it; False while
            the model trains.
        base_rows: Rows that do not go through the adapters; only for a model that `decodes_by_parts`.
    """
    read = read_model(model, lay_out=lay_out)
    parts = read.parts
    if parts is None:
        assert not base_rows, "the model's own forward has all rows of a batch go through the adapters"
        return lambda rows, ids: SpreadForward(model) if is_spread(model) else OwnForward(model)
    if not base_rows:
        return lambda rows, ids: BlockDecoder(parts, len(rows), ids + FIRST_ROOM)

    def make(rows: Sequence[int], ids: int) -> Decoder:
        adapted = torch.tensor([row not in base_rows for row in rows], device=parts.device)  # (B)
        return AdapterDecoder(parts, ids + FIRST_ROOM, read, adapted)

    return make


def decodes_by_parts(model: PreTrainedModel, *, lay_out: bool = True) -> bool:
    """Whether the model decodes through parts of our own."""
    return read_model(model, lay_out=lay_out).parts is not None


def read_model(model: PreTrainedModel, *, lay_out: bool) -> ReadModel:
    """What is known of the model as it is now: its parts and its adapter, or why there are none."""
    if is_spread(model):
        return ReadModel((), None, "its weights are spread over processes, and whole in its own forward alone")
    with _READING:
        read = _READ.get(model)
        state = _state_of(model, lay_out)
        if read is None or read.state != state:
            read = _READ[model] = _read(model, state, lay_out=lay_out)
    return read


def is_spread(model: nn.Module) -> bool:
    """Whether the model's weights are slices now, which other processes hold the rest of."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _read(model: PreTrainedModel, state: tuple[object, ...], *, lay_out: bool) -> ReadModel:
    reader = LayerReader(lay_out=lay_out and _copies_fit(model), adapter_rows=AdapterRows())
    try:
        parts = read_parts(model, reader)
    except (NotReadable, AttributeError) as error:
        return ReadModel(state, None, str(error))
    largest, difference = _compare(model, parts)
    if not difference <= MOST_DIFFERENCE.get(parts.dtype, 0.0) * largest:
        return ReadModel(state, None, f"logits differ by {difference:.1e} of {largest:.1e}")
    return ReadModel(state, parts, adapter_rows=reader.adapter_rows, own=reader.own)


@torch.inference_mode()
def _compare(model: PreTrainedModel, parts: DecoderParts) -> tuple[float, float]:
    """The largest logit after a few ids, read in two goes, and how far the parts' logits lie from the model's own."""
    positions = torch.arange(6, device=parts.device)[None]  # (1, 6)
    # Spread over the vocabulary: the first ids are control tokens of many models, whose activations are so large in a
    # row that rounding alone moves logits by a thousandth (SmolLM2).
    ids = (positions * ID_STEP + FIRST_ID) % model.config.vocab_size  # (1, 6)
    decoder = BlockDecoder(parts, *ids.shape)
    decoder.read(ids[:, :-1], positions[:, :-1], None)
    ours = decoder.read(ids[:, -1:], positions[:, -1:], None)  # (1, V)
    theirs = model(input_ids=ids, logits_to_keep=1, use_cache=False).logits[:, -1]  # (1, V)
    return float(theirs.abs().max()), float((ours - theirs).abs().max())


def _state_of(model: nn.Module, lay_out: bool) -> tuple[object, ...]:
    """Where each weight lies, how often it was changed, and some of its numbers; which adapters are in force.

    The numbers, since torch's fused optimizers change weights and count no change.
    """
    weights = [(tensor.data_ptr(), tensor._version) for tensor in model.parameters()]
    numbers = [_some_numbers(tensor) for tensor in model.parameters() if lay_out and tensor.requires_grad]
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    adapters = [
        (tuple(layer.active_adapters), layer.disable_adapters, tuple(layer.merged_adapters)) for layer in layers
    ]
    return lay_out, tuple(weights), tuple(numbers), tuple(adapters)


def _some_numbers(tensor: Tensor) -> tuple[float, ...]:
    flat = tensor.detach().flatten() if tensor.is_contiguous() else tensor.detach()[0].flatten()
    return tuple(flat[:: max(1, len(flat) // 4)].tolist()) if not isinstance(tensor, DTensor) else ()


def _copies_fit(model: nn.Module) -> bool:
    size = sum(parameter.nbytes for parameter in model.parameters())
    return size <= SHARE_OF_FREE_MEMORY * psutil.virtual_memory().available
