"""The cost of training against what others published and against products that are counted one by one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scratch_models.rungs.gpt import GPT
from scratch_models.rungs.gpt2_weights import GPT2_SIZES
from scratch_models.scaling_laws.training_cost import flops_per_token, share_of_peak, training_hours

GPT2 = GPT2_SIZES["gpt2"]
NANOGPT = "https://github.com/karpathy/nanoGPT/blob/3adf61e154c3fe3fca428ad6bc3818b27a3b8291/transformer_sizing.ipynb"
LLM_C = "https://github.com/karpathy/llm.c/blob/f1e2ace651495b74ae22d45d1723443fd00ecd3a/scripts/run_gpt2_124M.sh"


def test_a_row_of_gpt2_costs_what_nanogpts_notebook_has():
    without_biases = 102_144  # which that model does not have: 124,337,664 parameters in place of 124,439,808
    assert (flops_per_token(GPT2) - 6 * without_biases) * 1024 == 875_062_886_400, NANOGPT


def test_the_products_of_a_forward_pass_counted_one_by_one():
    with torch.device("meta"):
        model, ids = GPT(GPT2), torch.zeros(1, 1024, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(ids)
    assert counter.get_total_flops() == 291_648_307_200, NANOGPT
    assert flops_per_token(GPT2) * 1024 / 3 == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_llm_c_reaches_the_60_percent_that_it_reports():
    tokens_per_second = 524_288 / 0.300 / 8  # on each of 8 A100
    assert share_of_peak(GPT2, tokens_per_second, "A100") == pytest.approx(0.60, abs=0.005), LLM_C
    assert training_hours(GPT2, 18_865 * 524_288, "A100", 0.60) / 8 == pytest.approx(94.3 / 60, rel=0.01), LLM_C


def test_a_table_that_is_only_looked_up_costs_nothing():
    untied = type(GPT2)(vocabulary_size=300, block_size=64, layers=2, heads=2, width=32, tied=False)
    tied = type(GPT2)(vocabulary_size=300, block_size=64, layers=2, heads=2, width=32)
    assert flops_per_token(untied) == flops_per_token(tied)
