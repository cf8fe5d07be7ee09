"""Start rows against their rules worked by hand."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from configs import InputError
from scratch_models.rungs.bigram import BigramLanguageModel
from tokenizer_ext.embeddings.row_init import start_rows, start_tables
from tokenizer_ext.embeddings.tables import grow_rows

OLD_ROWS = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7) + 3


def test_rows_start_as_the_mean_of_the_rows_of_their_sub_tokens():
    rows = start_rows(OLD_ROWS, [[5], [1, 2, 2, 399]], "subtoken_mean")
    assert torch.equal(rows[0], OLD_ROWS[5])
    by_hand = (OLD_ROWS[1] + 2 * OLD_ROWS[2] + OLD_ROWS[399]) / 4
    torch.testing.assert_close(rows[1], by_hand)


def test_a_token_without_sub_tokens_starts_as_the_mean_of_all_rows():
    mean = OLD_ROWS.sum(dim=0) / 400
    torch.testing.assert_close(start_rows(OLD_ROWS, [[7], []], "subtoken_mean")[1], mean)
    torch.testing.assert_close(start_rows(OLD_ROWS, [[7], []], "mean"), mean.expand(2, 6))


def test_at_the_mean_a_new_token_is_no_more_likely_than_an_old_one_is_on_average():
    # Jensen: exp(mean of logits) is at most the mean of their exponentials, so a new token gets at most 1 / (V + 1).
    hidden = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    table = torch.cat([OLD_ROWS, start_rows(OLD_ROWS, [[]], "mean")])
    assert (hidden @ table.T).softmax(dim=-1)[:, -1].max() <= 1 / 401


def test_drawn_rows_have_the_mean_and_spread_of_the_old_ones_and_depend_on_the_seed_alone():
    rows = start_rows(OLD_ROWS, [[]] * 20_000, "normal", seed=1)
    torch.testing.assert_close(rows.mean(dim=0), OLD_ROWS.mean(dim=0), rtol=0, atol=0.2)
    torch.testing.assert_close(rows.std(dim=0), OLD_ROWS.std(dim=0), rtol=0.03, atol=0)
    assert torch.equal(start_rows(OLD_ROWS, [[]], "normal", seed=1), start_rows(OLD_ROWS, [[]], "normal", seed=1))
    assert not torch.equal(start_rows(OLD_ROWS, [[]], "normal", seed=1), start_rows(OLD_ROWS, [[]], "normal", seed=2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("start", ["zero", "normal", "mean", "subtoken_mean", "asymmetric"])
def test_rows_have_the_type_of_the_table(start, dtype):
    rows = start_rows(OLD_ROWS.to(dtype), [[1], [2, 3], []], start)
    assert (rows.dtype, rows.shape, rows.requires_grad) == (dtype, (3, 6), False)
    assert (rows == 0).all() == (start == "zero")


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_start_from_their_own_rows_and_padding_counts_for_nothing(tied: bool):
    config = {"n_embd": 6, "n_layer": 1, "n_head": 1, "n_positions": 4, "tie_word_embeddings": tied}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, bos_token_id=None, eos_token_id=None, **config))
    embedding, head = model.transformer.wte.weight.detach(), model.lm_head.weight.detach()
    embedding[7:] = head[7:] = 1e6  # padding rows
    input_rows, output_rows = start_tables(model, 7, [[2, 3], []], "subtoken_mean")
    torch.testing.assert_close(input_rows, torch.stack([embedding[2:4].mean(dim=0), embedding[:7].mean(dim=0)]))
    if tied:
        assert output_rows is None
    else:
        torch.testing.assert_close(output_rows, torch.stack([head[2:4].mean(dim=0), head[:7].mean(dim=0)]))


def test_embedding_and_head_draw_noise_of_their_own():
    config = {"n_embd": 6, "n_layer": 1, "n_head": 1, "n_positions": 4, "tie_word_embeddings": False}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, bos_token_id=None, eos_token_id=None, **config))
    model.lm_head.weight.data = model.transformer.wte.weight.data.clone()
    input_rows, output_rows = start_tables(model, 9, [[2, 3], []], "normal")
    assert output_rows is not None
    assert not (input_rows == output_rows).any()


def test_a_new_token_of_a_bigram_model_follows_and_is_followed_as_its_sub_tokens_are_on_average():
    model = BigramLanguageModel(5)
    old = model.token_embedding_table.weight.detach().clone()
    grow_rows(model, 5, *start_tables(model, 5, [[1, 3], [4]], "subtoken_mean"))
    table = model.token_embedding_table.weight.detach()
    torch.testing.assert_close(table[5, :5], (old[1] + old[3]) / 2)
    torch.testing.assert_close(table[:5, 5], (old[:, 1] + old[:, 3]) / 2)
    torch.testing.assert_close(table[6, 5], (old[4, 1] + old[4, 3]) / 2)
    torch.testing.assert_close(table[6, 6], old[4, 4])


def _two_tables(tied: bool) -> GPT2LMHeadModel:
    config = {"n_embd": 6, "n_layer": 1, "n_head": 1, "n_positions": 4, "tie_word_embeddings": tied}
    return GPT2LMHeadModel(GPT2Config(vocab_size=9, bos_token_id=None, eos_token_id=None, **config))


CHARACTERS = {2: 1, 3: 4, 5: 2}


@pytest.mark.parametrize("tied", [True, False])
def test_asymmetric_input_rows_point_where_their_sub_tokens_do_on_average_and_are_as_long_as_old_rows(tied: bool):
    model = _two_tables(tied)
    embedding = model.transformer.wte.weight.detach()
    embedding[7:] = 1e6  # padding rows
    rows, output_rows = start_tables(model, 7, [[2, 3], [5, 5, 2]], "asymmetric", character_counts=CHARACTERS)
    by_hand = torch.stack([embedding[[2, 3]].mean(dim=0), embedding[[5, 5, 2]].mean(dim=0)])
    torch.testing.assert_close(torch.cosine_similarity(rows, by_hand), torch.ones(2))
    torch.testing.assert_close(rows.norm(dim=1), embedding[:7].norm(dim=1).mean().expand(2))
    assert (output_rows is None) == tied


def test_asymmetric_output_rows_weigh_each_sub_token_by_its_characters():
    model = _two_tables(tied=False)
    head = model.lm_head.weight.detach()
    _, output_rows = start_tables(model, 7, [[2, 3], [5, 5, 2]], "asymmetric", character_counts=CHARACTERS)
    by_hand = torch.stack([(head[2] + 4 * head[3]) / 5, (2 * head[5] + 2 * head[5] + head[2]) / 5])
    torch.testing.assert_close(output_rows, by_hand)


def test_asymmetric_rows_of_a_token_without_sub_tokens_are_the_mean_of_all():
    model = _two_tables(tied=False)
    rows, output_rows = start_tables(model, 7, [[], [2]], "asymmetric", character_counts=CHARACTERS)
    torch.testing.assert_close(rows[0], model.transformer.wte.weight[:7].mean(dim=0))
    assert output_rows is not None
    torch.testing.assert_close(output_rows[0], model.lm_head.weight[:7].mean(dim=0))


def test_asymmetric_scores_of_a_bigram_model_follow_the_rule_for_output_rows():
    model = BigramLanguageModel(5)
    old = model.token_embedding_table.weight.detach().clone()
    counts = {1: 1, 3: 3, 4: 2}
    grow_rows(model, 5, *start_tables(model, 5, [[1, 3]], "asymmetric", character_counts=counts))
    table = model.token_embedding_table.weight.detach()
    torch.testing.assert_close(table[5, :5], (old[1] + 3 * old[3]) / 4)
    torch.testing.assert_close(table[:5, 5], (old[:, 1] + 3 * old[:, 3]) / 4)


def test_asymmetric_asks_for_the_character_counts_where_there_are_output_rows():
    with pytest.raises(InputError, match="no character_counts"):
        start_tables(_two_tables(tied=False), 7, [[2]], "asymmetric")


def test_a_mean_of_half_precision_rows_is_rounded_once():
    old = OLD_ROWS.to(torch.bfloat16)
    rows = start_rows(old, [[1, 2, 3]], "subtoken_mean")
    assert torch.equal(rows[0], old[[1, 2, 3]].float().mean(dim=0).to(torch.bfloat16))
