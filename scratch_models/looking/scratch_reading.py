"""What a scratch model computes while it reads a prompt: listened to from outside, the models know nothing of it.

Shapes: B rows of a batch, T tokens of a row, H heads, K width of a head, D width.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from scratch_models.looking.reading import ATTENTION, LENS, Reading, reads_out, refuse_too_long
from scratch_models.rungs.attention_heads import Head
from scratch_models.rungs.averaging import AveragePast, hide_future
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.megabyte import Megabyte

_BIGRAM = "a bigram model looks at one token alone: it has no attention, and one table is all of it"
_AVERAGE = "this model reads the mean of the past, every token with the same weight: it has no attention"
_PATCHES = "this model reads patches, and attends from patch to patch and inside each: no square of tokens shows that"
_NOT_FOUND = "this model mixes tokens by something else than torch's scaled_dot_product_attention"
_OTHER_HEAD = "this model's logits are not its head over its final norm over its stream"


@torch.no_grad()
def read_with_scratch_model(model: nn.Module, ids: Sequence[int], where: str) -> Reading:
    """What the model computes of these ids; `where` names it in an error.

    Raises:
        InputError: the prompt has no token, or more than the model has positions.
    """
    config: Any = getattr(model, "config", None)
    refuse_too_long(ids, getattr(config, "block_size", None), where)
    model.eval()
    row = torch.tensor([list(ids)], device=next(model.parameters()).device)  # (1, T)
    if isinstance(model, BigramLanguageModel | Megabyte):
        why = _BIGRAM if isinstance(model, BigramLanguageModel) else _PATCHES
        return Reading(ids=ids, logits=model(row)[0], left_out={ATTENTION: why, LENS: why})
    listener = _Listener(model)
    logits = listener.listen(row)[0]  # (T, V)
    attention = listener.attention if len(listener.attention) == len(listener.streams) - 1 else []
    normed, head = listener.normed()
    left_out = {}
    if not attention:
        averages = any(isinstance(module, AveragePast) for module in model.modules())
        left_out[ATTENTION] = _AVERAGE if averages else _NOT_FOUND
    if head is None or not reads_out(normed, head, logits):
        normed, left_out[LENS] = [], _OTHER_HEAD
    return Reading(ids=ids, logits=logits, attention=attention, normed=normed, head=head, left_out=left_out)


def attention_weights(
    queries: Tensor,
    keys: Tensor,
    _values: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights that `scaled_dot_product_attention` gives the values, with no dropout: (B, H, T, K) -> (B, H, T, T).

    The arguments are those of torch's function.

    >>> attention_weights(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.zeros(1), is_causal=True)[0, 0]
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    if enable_gqa:
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    scores = queries @ keys.transpose(-2, -1) * (1 / math.sqrt(queries.shape[-1]) if scale is None else scale)
    if is_causal:
        scores = hide_future(scores)
    elif attn_mask is not None:
        hidden = torch.zeros_like(scores).masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else None
        scores = scores + (attn_mask if hidden is None else hidden)
    return F.softmax(scores, dim=-1)


class _Listener(TorchFunctionMode):
    """Notes what goes into attention and what stands in the stream around each layer, while a model reads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.attention: list[Tensor] = []
        self.streams: list[Tensor] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes the weights of a call of attention, then makes the call."""
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self.attention.append(attention_weights(*args, **kwargs)[0])
        return function(*args, **kwargs)

    def listen(self, row: Tensor) -> Tensor:
        """The logits of a row: (1, T) -> (1, T, V)."""
        layers = list(self.model.blocks) if hasattr(self.model, "blocks") else [self.model.mixing]
        handles = [layers[0].register_forward_pre_hook(lambda _, inputs: self.streams.append(inputs[0][0]))]
        handles += [layer.register_forward_hook(lambda _, __, out: self.streams.append(out[0])) for layer in layers]
        heads: list[Tensor] = []  # of attention written out, where each head is a module
        for module in self.model.modules():
            if isinstance(module, Head):
                handles.append(
                    module.register_forward_pre_hook(lambda head, inputs: heads.append(head.weights(inputs[0])[0]))
                )
        try:
            with self:
                logits: Tensor = self.model(row)
        finally:
            for handle in handles:
                handle.remove()
        self.attention += [torch.stack(heads)] if heads else []
        return logits

    def normed(self) -> tuple[list[Tensor], Callable[[Tensor], Tensor] | None]:
        """The streams through the final norm, where there is one, and the head."""
        norm = getattr(self.model, "final_norm", nn.Identity())
        return [norm(stream) for stream in self.streams], getattr(self.model, "lm_head", None)
