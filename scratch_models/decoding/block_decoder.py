"""A stack of transformer blocks that decodes: a few ids at a time, keys and values of the past kept in place.

What a block is made of comes as parts, so that models written from scratch and those of Hugging Face decode alike.

Shapes: B rows, T new ids of a row, S ids of a row so far, D width, H heads of queries, G heads of keys and values, K
width of a head, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Part = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BlockParts:
    """One block: each of the two halves reads the normed stream and adds to it."""

    norm_1: Part
    query_key_value: Part
    """(B, T, D) -> (B, T, (H + 2 G) K): all queries, then all keys, then all values."""
    projection: Part
    norm_2: Part
    mlp: Part
    query_norm: Part | None = None
    """Norms each head of queries, where the model does: (B, T, H, K) -> (B, T, H, K)."""
    key_norm: Part | None = None


@dataclass(frozen=True)
class DecoderParts:
    """A model as parts."""

    embed: Callable[[Tensor, Tensor], Tensor]
    """Ids and their positions, each (B, T) -> (B, T, D)."""
    turns: Callable[[int], tuple[Tensor, Tensor]] | None
    """Cosines and sines by which so many positions turn a head, each (positions, K); None where nothing turns."""
    blocks: tuple[BlockParts, ...]
    final_norm: Part
    head: Part
    """(B, D) -> (B, V)."""
    heads: int
    key_value_heads: int
    head_width: int
    scale: float
    """What products of queries and keys are multiplied by."""
    dtype: torch.dtype
    device: torch.device


class BlockDecoder:
    """Reads rows of ids bit by bit and gives the logits after the last."""

    def __init__(self, parts: DecoderParts, rows: int, room: int) -> None:
        """Takes the room for the keys and values of so many ids a row; it doubles when it is full."""
        self.parts = parts
        self.length = 0
        self._make_room(rows, room)

    def _make_room(self, rows: int, room: int) -> None:
        parts = self.parts
        shape = (len(parts.blocks), 2, rows, parts.key_value_heads, room, parts.head_width)
        # Zeros: a row that is shorter than others reads what lies behind it with a weight of 0, and 0 x NaN is NaN.
        self.cache = torch.zeros(shape, dtype=parts.dtype, device=parts.device)  # (layers, 2, B, G, room, K)
        self.turns = None if parts.turns is None else parts.turns(room)

    def read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits after the last id of each row: (B, T) ids and their positions -> (B, V).

        `mask` tells ids from padding over all that was read, (B, S); None where there is no padding.
        """
        stream = self._read(input_ids, positions, mask)
        return self.parts.head(self.parts.final_norm(stream[:, -1]))

    def _read(self, input_ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """What the last block makes of each id: (B, T) -> (B, T, D)."""
        parts, T = self.parts, input_ids.shape[1]
        end = self.length + T
        if end > self.cache.shape[4]:
            held = self.cache
            self._make_room(held.shape[2], max(end, 2 * held.shape[4]))
            self.cache[..., : self.length, :] = held[..., : self.length, :]
        allowed = self._allowed(mask, T, end)
        turns = None
        if self.turns is not None:
            turns = self.turns[0][positions][:, None], self.turns[1][positions][:, None]  # (B, 1, T, K) twice
        stream = parts.embed(input_ids, positions)  # (B, T, D)
        for block, cache in zip(parts.blocks, self.cache, strict=True):
            stream = stream + block.projection(self._attend(block, cache, stream, turns, allowed))
            stream = stream + block.mlp(block.norm_2(stream))
        self.length = end
        return stream

    def keep_rows(self, kept: Tensor) -> None:
        """Forgets every row but these."""
        self.cache = self.cache.index_select(2, kept)

    def _attend(
        self,
        block: BlockParts,
        cache: Tensor,
        stream: Tensor,
        turns: tuple[Tensor, Tensor] | None,
        allowed: Tensor | None,
    ) -> Tensor:
        """What the heads read from the tokens so far: (B, T, D) -> (B, T, H K)."""
        parts, (B, T, _) = self.parts, stream.shape
        H, G, K = parts.heads, parts.key_value_heads, parts.head_width
        together = block.query_key_value(block.norm_1(stream)).view(B, T, H + 2 * G, K)
        if block.query_norm is not None and block.key_norm is not None:
            queries, keys, values = together.split((H, G, G), dim=2)
            together = torch.cat([block.query_norm(queries), block.key_norm(keys), values], dim=2)
        together = together.transpose(1, 2)  # (B, H + 2 G, T, K)
        turned = together[:, : H + G]
        if turns is not None:
            turned = turn_by(turned, *turns)
        keys, values = self._remember(cache, turned[:, H:], together[:, H + G :])  # (B, G, S, K) twice
        queries = turned[:, :H]  # (B, H, T, K)
        if T == 1:  # the queries that share keys and values stand where those of several tokens would
            queries = queries.reshape(B, G, H // G, K)
        elif H > G:
            keys, values = (shared.repeat_interleave(H // G, dim=1) for shared in (keys, values))  # (B, H, S, K)
        is_causal = T > 1 and allowed is None
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=allowed, is_causal=is_causal, scale=parts.scale
        )
        if T == 1:
            return mixed.reshape(B, 1, H * K)
        return mixed.transpose(1, 2).reshape(B, T, H * K)

    def _remember(self, cache: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Those of all ids so far, given those of the new ones: (B, G, T, K) twice -> (B, G, S, K) twice."""
        start, end = self.length, self.length + keys.shape[2]
        cache[0, :, :, start:end], cache[1, :, :, start:end] = keys, values
        return cache[0, :, :, :end], cache[1, :, :, :end]

    def _allowed(self, mask: Tensor | None, new: int, end: int) -> Tensor | None:
        """Which ids each new id may read, (B or 1, 1, T, S); None where plain causality or no bound at all says it."""
        if new == 1:
            return None if mask is None else mask.bool()[:, None, None]  # (B, 1, 1, S)
        if mask is None and new == end:
            return None
        causal = torch.ones(new, end, dtype=torch.bool, device=self.parts.device).tril(end - new)  # (T, S)
        if mask is None:
            return causal[None, None]
        itself = torch.eye(new, end, dtype=torch.bool, device=self.parts.device).roll(end - new, dims=1)  # (T, S)
        # Padding reads itself: a softmax over nothing would be no number.
        return ((causal & mask.bool()[:, None]) | itself)[:, None]  # (B, 1, T, S)


def gated_mlp(gate_and_expand: Part, activation: Part, contract: Part) -> Part:
    """A feed-forward layer whose hidden numbers are multiplied by a gate; both come side by side from one product."""

    def compute(normed: Tensor) -> Tensor:
        gate, expanded = gate_and_expand(normed).chunk(2, dim=-1)
        return contract(activation(gate) * expanded)

    return compute


def turn_by(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Heads turned by their positions; number i and number i + K / 2 are a pair: (B, H, T, K) -> (B, H, T, K)."""
    first, second = heads.chunk(2, dim=-1)  # (B, H, T, K / 2)
    return heads * cosines + torch.cat([-second, first], dim=-1) * sines
