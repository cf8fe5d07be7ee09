"""MEGABYTE: a long row read in patches, by a global model from patch to patch and a local one inside each patch.

Attention over bytes costs the square of their number. Here the global model, which holds most of the weights, reads one
position a patch, and the local model, which is small, no more than a patch. So a row may be long.

Source: Yu et al. 2023, "MEGABYTE: Predicting Million-byte Sequences with Multiscale Transformers", section 2. As every
model here gives the logits of the token after each one that it reads, the local model reads the last byte of the patch
before where the paper's reads a padding embedding; in both it then sees all that came before.

Shapes: B rows of a batch, T tokens of a row, V vocabulary, P tokens of a patch, K patches of a row (T = K * P), D width
of the global model, C width of the local one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs import InputError
from scratch_models.rungs.gpt import INITIAL_STANDARD_DEVIATION, Block, GPTConfig


@dataclass(frozen=True, kw_only=True)
class MegabyteConfig:
    """The shape of a MEGABYTE."""

    vocabulary_size: int
    """Rows of the token embedding: 256 for bytes."""
    block_size: int
    """Longest row in tokens."""
    patch_size: int
    """Tokens of a patch; it divides the block."""
    layers: int
    """Transformer blocks of the global model."""
    heads: int
    """Attention heads of a block, global or local; they divide both widths."""
    width: int
    """Width of the global model, which the embeddings of a patch share between them."""
    local_layers: int
    """Transformer blocks of the local model."""
    local_width: int
    """Width of the local model."""

    def __post_init__(self) -> None:
        sizes = (self.vocabulary_size, self.block_size, self.patch_size, self.layers, self.heads, self.width)
        if min(*sizes, self.local_layers, self.local_width) < 1:
            raise InputError(f"the shape of a MEGABYTE needs sizes of at least 1, got {self}")
        for name, size in (("block_size", self.block_size), ("width", self.width)):
            if size % self.patch_size:
                raise InputError(f"{name} {size} is not a multiple of patch_size {self.patch_size}, expected one")
        for name, width in (("width", self.width), ("local_width", self.local_width)):
            if width % self.heads:
                raise InputError(f"{name} {width} is not a multiple of heads {self.heads}: choose a width that is")


class Megabyte(nn.Module):
    """A global model over patches whose output tells a local model, inside each patch, what came before it."""

    def __init__(self, config: MegabyteConfig) -> None:
        super().__init__()
        self.config = config
        share = config.width // config.patch_size
        self.global_embedding_table = nn.Embedding(config.vocabulary_size, share)
        self.position_embedding_table = nn.Embedding(config.block_size, share)
        self.before_all = nn.Parameter(torch.empty(config.width))  # stands where the first patch has none before it
        self.global_model = Layers(config.layers, config.heads, config.width)
        self.to_local = nn.Linear(share, config.local_width, bias=False)
        self.token_embedding_table = nn.Embedding(config.vocabulary_size, config.local_width)
        self.local_model = Layers(config.local_layers, config.heads, config.local_width)
        self.lm_head = nn.Linear(config.local_width, config.vocabulary_size, bias=False)
        self.lm_head.weight = self.token_embedding_table.weight
        # At first the local model is alone: what the global one says is normed, and would drown the small embeddings.
        nn.init.zeros_(self.to_local.weight)
        nn.init.normal_(self.before_all, std=INITIAL_STANDARD_DEVIATION)
        for module in (self.global_embedding_table, self.position_embedding_table, self.token_embedding_table):
            nn.init.normal_(module.weight, std=INITIAL_STANDARD_DEVIATION)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token at every position: (B, T) ids -> (B, T, V)."""
        B, T = input_ids.shape
        if self.config.block_size < T:
            raise InputError(f"{T} tokens do not fit the model's {self.config.block_size} positions: crop the row")
        # A last patch that is not full is filled up: nothing looks ahead, so what it is filled with changes no logit.
        ids = F.pad(input_ids, (0, -T % self.config.patch_size))  # (B, K * P)
        local = self.token_embedding_table(ids).unflatten(1, (-1, self.config.patch_size))  # (B, K, P, C)
        stream = local + self.to_local(self._before_patches(ids))  # (B, K, P, C)
        normed = self.local_model(stream.flatten(0, 1))  # (B * K, P, C)
        logits: Tensor = self.lm_head(normed).view(B, ids.shape[1], -1)[:, :T]  # (B, T, V)
        return logits

    def _before_patches(self, ids: Tensor) -> Tensor:
        """What the global model says of all that came before each patch, a part for each place: (B, K, P, D / P)."""
        positions = torch.arange(ids.shape[1], device=ids.device)  # (K * P)
        embedded = self.global_embedding_table(ids) + self.position_embedding_table(positions)  # (B, K * P, D / P)
        patches = embedded.view(len(ids), -1, self.config.width)  # (B, K, D)
        first = self.before_all.to(patches.dtype).expand(len(ids), 1, -1)  # (B, 1, D)
        shifted = torch.cat([first, patches[:, :-1]], dim=1)  # (B, K, D): each patch reads those before it
        said: Tensor = self.global_model(shifted).unflatten(2, (self.config.patch_size, -1))
        return said


class Layers(nn.Module):
    """The blocks of a GPT and its final norm, without embeddings and head."""

    def __init__(self, layers: int, heads: int, width: int) -> None:
        super().__init__()
        config = GPTConfig(vocabulary_size=1, layers=layers, heads=heads, width=width)
        blocks = [Block(config) for _ in range(layers)]
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STANDARD_DEVIATION)
                nn.init.zeros_(module.bias)
        for block in blocks:
            block.scale_residual_projections(layers)

    def forward(self, stream: Tensor) -> Tensor:
        """The normed output of the last block: (B, T, D) -> (B, T, D)."""
        for block in self.blocks:
            stream = block(stream)
        normed: Tensor = self.final_norm(stream)
        return normed
