import random

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from scratch_models.embedded.default import EMBEDDED_BASE
from tokenizer_ext.embeddings.tables import find_tables
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer
from tokenizer_ext.huggingface.hf_tokenizer import token_bytes
from tokenizer_ext.inspection.token_kinds import sort_tokens
from tokenizer_ext.inspection.undertrained import find_undertrained, measure_rows, untrained_groups

PLANTED = 50
ENDS = {"bos_token_id": None, "eos_token_id": None}


@pytest.fixture(scope="module")
def embedded():
    """Rows that were trained, the ordinary tokens, and what no text can have trained."""
    model, tokenizer = load_model(str(EMBEDDED_BASE)), load_tokenizer(str(EMBEDDED_BASE))
    ordinary = [id_ for id_, found in sort_tokens(tokenizer).items() if found.kind == "ordinary"]
    return model, ordinary, untrained_groups(token_bytes(tokenizer), 6144)


def plant(model, ids, seed: int, drift: torch.Tensor | float = 0.0) -> None:
    table = find_tables(model).embedding.weight
    start = torch.randn(len(ids), table.shape[1], generator=torch.Generator().manual_seed(seed)) * 0.02
    with torch.no_grad():
        table[ids] = start + drift


@pytest.mark.parametrize("drifted", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_50_planted_rows_45_are_among_the_worst_2_percent(embedded, seed: int, drifted: bool):
    model, ordinary, groups = embedded
    table = find_tables(model).embedding.weight
    old = table.detach().clone()
    measures = measure_rows(model, ordinary, groups)
    trained = [id_ for id_ in ordinary if measures[id_] > 0.8]
    planted = random.Random(seed).sample(trained, PLANTED)
    plant(model, planted, seed, drift=old[groups[0]].mean(dim=0) if drifted else 0.0)
    found = find_undertrained(model, ordinary, groups)
    with torch.no_grad():
        table.copy_(old)
    assert len(found.worst) == round(0.02 * len(ordinary))
    assert len({id_ for id_, _ in found.worst} & set(planted)) >= 45
    assert found.is_distinct


def llama(tied: bool, rows: int = 400, width: int = 64):
    torch.manual_seed(0)
    fields = {"hidden_size": width, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows, tie_word_embeddings=tied, pad_token_id=None, **fields))


def test_a_row_of_an_untied_model_that_is_short_in_both_tables_is_found():
    model = llama(tied=False)
    tables = find_tables(model)
    assert tables.head
    for weight in (tables.embedding.weight, tables.head.weight):
        with torch.no_grad():
            weight[:380] *= 5  # trained rows; 380 to 399 keep their start
            weight[7] /= 5
    found = find_undertrained(model, range(380), [list(range(380, 400))])
    assert found.worst[0][0] == 7
    assert found.flagged == [7]
    assert found.reference == pytest.approx(0.2, rel=0.1)


def test_a_model_that_was_never_trained_has_no_rows_that_can_be_told_apart():
    model = llama(tied=True)
    found = find_undertrained(model, range(380), [list(range(380, 400))])
    assert not found.is_distinct


def test_padding_rows_of_zeros_do_not_spoil_the_measure():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=8, n_embd=32, n_layer=1, n_head=2, **ENDS))
    table = find_tables(model).embedding.weight
    with torch.no_grad():
        table[:280] *= 5
        table[5:15] /= 5
        table[290:] = 0
    found = find_undertrained(model, range(280), [list(range(280, 290)), list(range(290, 300))])
    assert torch.isfinite(measure_rows(model, range(280), [[281], [290, 291]])).all()
    assert {id_ for id_, _ in found.worst} <= set(range(5, 15))
    assert found.flagged == list(range(5, 15))


def test_unused_bytes_and_rows_without_a_token_are_the_reference(small_tokenizer):
    groups = untrained_groups(token_bytes(small_tokenizer), 410)
    bytes_of_id = token_bytes(small_tokenizer)
    assert [bytes_of_id[id_][0] for id_ in groups[0]] == sorted(bytes_of_id[id_][0] for id_ in groups[0])
    assert len(groups[0]) == 13
    assert groups[1] == list(range(400, 410))
