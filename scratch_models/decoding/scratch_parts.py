"""GPT and Llama as written from scratch, as the parts of a block decoder."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scratch_models.decoding.block_decoder import BlockParts, DecoderParts, Part, gated_mlp
from scratch_models.decoding.row_products import RowProduct
from scratch_models.rungs.gpt import GPT
from scratch_models.rungs.gpt import Block as GPTBlock
from scratch_models.rungs.llama import Llama, LlamaBlock, rotary_turns


def parts_of(model: GPT | Llama) -> DecoderParts:
    """The parts of a model whose weights are not to change while they decode."""
    return _gpt(model) if isinstance(model, GPT) else _llama(model)


def _gpt(model: GPT) -> DecoderParts:
    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        embedded: Tensor = model.token_embedding_table(ids) + model.position_embedding_table(positions)
        return embedded

    def block_of(block: nn.Module) -> BlockParts:
        assert isinstance(block, GPTBlock)
        expand, contract = _product(block.mlp.expand), _product(block.mlp.contract)
        return BlockParts(
            norm_1=block.norm_1,
            query_key_value=_product(block.attention.query_key_value),
            projection=_product(block.attention.projection),
            norm_2=block.norm_2,
            mlp=lambda normed: contract(F.gelu(expand(normed), approximate="tanh")),
        )

    config = model.config
    return DecoderParts(
        embed=embed,
        turns=None,
        blocks=tuple(map(block_of, model.blocks)),
        final_norm=model.final_norm,
        head=_product(model.lm_head),
        heads=config.heads,
        key_value_heads=config.heads,
        head_width=config.width // config.heads,
        scale=math.sqrt(config.heads / config.width),
        dtype=model.lm_head.weight.dtype,
        device=model.lm_head.weight.device,
    )


def _llama(model: Llama) -> DecoderParts:
    config, device = model.config, model.lm_head.weight.device
    head_width = config.width // config.heads

    def turns(positions: int) -> tuple[Tensor, Tensor]:
        halves = rotary_turns(positions, head_width, config.rotary_base, device)  # (2, positions, K / 2)
        cosines, sines = torch.cat([halves, halves], dim=-1).to(model.lm_head.weight.dtype)
        return cosines, sines

    return DecoderParts(
        embed=lambda ids, positions: model.token_embedding_table(ids),
        turns=turns,
        blocks=tuple(map(_llama_block, model.blocks)),
        final_norm=model.final_norm,
        head=_product(model.lm_head),
        heads=config.heads,
        key_value_heads=config.key_value_heads,
        head_width=head_width,
        scale=head_width**-0.5,
        dtype=model.lm_head.weight.dtype,
        device=device,
    )


def _llama_block(block: nn.Module) -> BlockParts:
    assert isinstance(block, LlamaBlock)
    attention, mlp = block.attention, block.mlp
    return BlockParts(
        norm_1=block.norm_1,
        query_key_value=_product(attention.query, attention.key, attention.value),
        projection=_product(attention.projection),
        norm_2=block.norm_2,
        mlp=gated_mlp(_product(mlp.gate, mlp.expand), F.silu, _product(mlp.contract)),
    )


def _product(*linears: nn.Linear) -> Part:
    return RowProduct([linear.weight for linear in linears], [linear.bias for linear in linears], lay_out=True)
