import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from configs import InputError
from scratch_models.rungs.bigram import BigramLanguageModel
from scratch_models.rungs.gpt import GPT, GPTConfig
from tokenizer_ext.embeddings.extended_tables import ExtendedEmbedding
from tokenizer_ext.embeddings.tables import find_tables, fold, grow_rows, new_row_parameters, separate_new_rows

FIRST_NEW_ID = 40
NEW_TOKENS = 5
WIDTH = 16


def gpt2(*, tied: bool, rows: int) -> Any:
    fields = {"n_positions": 16, "n_embd": WIDTH, "n_layer": 1, "n_head": 2, "bos_token_id": None, "eos_token_id": None}
    return GPT2LMHeadModel(GPT2Config(vocab_size=rows, tie_word_embeddings=tied, **fields))


def llama(*, tied: bool, rows: int) -> Any:
    fields = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows, tie_word_embeddings=tied, pad_token_id=3, **fields))


def phi(*, tied: bool, rows: int) -> Any:
    """A model whose head has a bias."""
    fields = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return PhiForCausalLM(
        PhiConfig(vocab_size=rows, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2, **fields)
    )


def gemma3(*, tied: bool, rows: int) -> Any:
    """A model whose embedding multiplies its rows by 4, the root of the width."""
    fields = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    fields |= {"num_key_value_heads": 1, "head_dim": 8}
    return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=rows, tie_word_embeddings=tied, **fields))


def scratch(*, tied: bool, rows: int) -> Any:
    return GPT(GPTConfig(vocabulary_size=rows, block_size=16, layers=1, heads=2, width=WIDTH, tied=tied))


KINDS = {
    f"{kind.__name__} {'tied' if tied else 'untied'}": (kind, tied)
    for kind in (gpt2, llama, phi, gemma3, scratch)
    for tied in (True, False)
}


def make(kind: str, rows: int = FIRST_NEW_ID) -> Any:
    """A model with weights of a trained model's size."""
    torch.manual_seed(0)
    build, tied = KINDS[kind]
    model = build(tied=tied, rows=rows).eval()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name or ".ln_" in name), std=0.3)
    return model


def start_rows_for(kind: str, new_tokens: int = NEW_TOKENS) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(new_tokens, WIDTH, generator=generator)
    return rows, None if KINDS[kind][1] else torch.randn(new_tokens, WIDTH, generator=generator)


def grown(kind: str, rows: int = FIRST_NEW_ID) -> Any:
    model = make(kind, rows)
    grow_rows(model, FIRST_NEW_ID, *start_rows_for(kind))
    return model


def grown_bigram() -> Any:
    torch.manual_seed(0)
    model = BigramLanguageModel(FIRST_NEW_ID).eval()
    grow_rows(
        model, FIRST_NEW_ID, torch.randn(NEW_TOKENS, FIRST_NEW_ID + NEW_TOKENS), torch.randn(FIRST_NEW_ID, NEW_TOKENS)
    )
    return model


# Growing into new rows, into padding rows that suffice, into some of both; a bigram table has no padding.
GROWN = {f"{kind}, {rows} rows": (kind, rows) for kind in KINDS for rows in (FIRST_NEW_ID, 48, 43)}


@pytest.fixture(params=[*GROWN, "bigram"])
def model(request: pytest.FixtureRequest) -> Any:
    return grown_bigram() if request.param == "bigram" else grown(*GROWN[request.param])


def weights(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_table(name: str) -> bool:
    return name.endswith(("wte.weight", "embed_tokens.weight", "token_embedding_table.weight")) or "lm_head." in name


def logits_of(model: Any, ids: Tensor) -> Tensor:
    found = model(ids)
    return found if isinstance(found, Tensor) else found.logits


def old_and_new_ids() -> Tensor:
    ids = torch.randint(FIRST_NEW_ID + NEW_TOKENS, (4, 16), generator=torch.Generator().manual_seed(2))
    ids[0, :6] = torch.tensor([0, FIRST_NEW_ID - 1, FIRST_NEW_ID, FIRST_NEW_ID + NEW_TOKENS - 1, FIRST_NEW_ID, 3])
    return ids


def change_new_rows(model: Any) -> None:
    for parameter in new_row_parameters(model).values():
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))


# growing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [FIRST_NEW_ID, 43, 48])
def test_growing_keeps_every_bit_of_old_rows_padding_and_other_weights(kind: str, rows: int):
    before, after = weights(make(kind, rows)), weights(grown(kind, rows))
    end = FIRST_NEW_ID + NEW_TOKENS
    for name, tensor in before.items():
        if is_table(name):
            assert len(after[name]) == max(rows, end)
            assert torch.equal(after[name][:FIRST_NEW_ID], tensor[:FIRST_NEW_ID]), name
            assert torch.equal(after[name][end:], tensor[end:]), name
        else:
            assert torch.equal(after[name], tensor), name


@pytest.mark.parametrize("kind", KINDS)
def test_start_rows_stand_at_the_new_ids(kind: str):
    tables = find_tables(grown(kind, 43))
    input_rows, output_rows = start_rows_for(kind)
    place = slice(FIRST_NEW_ID, FIRST_NEW_ID + NEW_TOKENS)
    assert tables.head is not None
    assert torch.equal(tables.embedding.weight[place], input_rows)
    assert torch.equal(tables.head.weight[place], input_rows if output_rows is None else output_rows)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "scratch" not in kind])
def test_a_grown_model_is_what_transformers_own_resize_makes_of_it(kind: str):
    ours, theirs = grown(kind), make(kind)
    theirs.resize_token_embeddings(FIRST_NEW_ID + NEW_TOKENS, mean_resizing=False)
    for table, rows in zip(("input", "output"), start_rows_for(kind), strict=True):
        if rows is not None:
            getattr(theirs, f"get_{table}_embeddings")().weight.data[FIRST_NEW_ID:] = rows
    if theirs.get_output_embeddings().bias is not None:
        theirs.get_output_embeddings().bias.data[FIRST_NEW_ID:] = ours.get_output_embeddings().bias[FIRST_NEW_ID:]
    assert ours.config.to_dict() == theirs.config.to_dict()
    assert ours.vocab_size == theirs.vocab_size
    assert torch.equal(logits_of(ours, old_and_new_ids()), logits_of(theirs, old_and_new_ids()))


@pytest.mark.parametrize("kind", KINDS)
def test_tied_stays_tied_and_untied_untied(kind: str):
    tables = find_tables(grown(kind))
    assert tables.head is not None
    shares = tables.head.weight.data_ptr() == tables.embedding.weight.data_ptr()
    assert shares == tables.tied == KINDS[kind][1]
    assert tables.head.out_features == tables.embedding.num_embeddings == FIRST_NEW_ID + NEW_TOKENS


def test_the_shape_of_a_scratch_model_says_its_rows():
    assert grown("scratch tied").config.vocabulary_size == FIRST_NEW_ID + NEW_TOKENS


@pytest.mark.parametrize("tied", [True, False])
def test_the_biases_of_new_ids_are_the_mean_of_the_old_ones_unless_given(tied: bool):
    kind = f"phi {'tied' if tied else 'untied'}"
    old = make(kind, 43).lm_head.bias
    biases = grown(kind, 43).lm_head.bias
    assert torch.equal(biases[:FIRST_NEW_ID], old[:FIRST_NEW_ID])
    assert torch.equal(biases[FIRST_NEW_ID:], old[:FIRST_NEW_ID].mean().expand(NEW_TOKENS))
    model = make(kind)
    given = torch.arange(float(NEW_TOKENS))
    grow_rows(model, FIRST_NEW_ID, *start_rows_for(kind), output_biases=given)
    assert torch.equal(model.lm_head.bias[FIRST_NEW_ID:], given)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_become_a_multiple_and_new_padding_is_the_mean_of_the_old_rows(kind: str):
    model, old = make(kind, 43), make(kind, 43)
    grow_rows(model, FIRST_NEW_ID, *start_rows_for(kind), multiple=64)
    tables, end = find_tables(model), FIRST_NEW_ID + NEW_TOKENS
    assert tables.head is not None
    assert tables.tied == KINDS[kind][1]
    assert len(tables.embedding.weight) == len(tables.head.weight) == tables.head.out_features == 64
    mean = find_tables(old).embedding.weight[:FIRST_NEW_ID].mean(dim=0)
    torch.testing.assert_close(tables.embedding.weight[end:], mean.expand(64 - end, WIDTH))
    # So no padding id is more likely than the old ids are on average (Jensen's inequality).
    probabilities = logits_of(model, old_and_new_ids()).softmax(dim=-1)
    assert (probabilities[..., end:] <= probabilities[..., :FIRST_NEW_ID].mean(dim=-1, keepdim=True) * 1.001).all()


def qwen2(*, tied: bool, rows: int) -> Any:
    fields = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=rows, tie_word_embeddings=tied, num_key_value_heads=1, **fields))


# Rows that a model of the family ships with, ids that its tokenizer uses, new tokens, multiple, rows afterwards.
PADDED = [
    (gemma3, 262_208, 262_145, 63, 1, 262_208),
    (gemma3, 262_208, 262_145, 64, 64, 262_272),
    (qwen2, 151_936, 151_669, 200, 1, 151_936),
    (qwen2, 151_936, 151_669, 267, 128, 151_936),
    (qwen2, 151_936, 151_669, 1000, 128, 152_704),
    (gpt2, 50_257, 50_257, 0, 64, 50_304),
    (gpt2, 50_304, 50_257, 47, 64, 50_304),
    (gpt2, 50_257, 50_257, 1000, 64, 51_264),
]


@pytest.mark.parametrize(("build", "rows", "used", "new_tokens", "multiple", "rows_after"), PADDED)
def test_tables_of_real_sizes_lose_no_row_and_never_shrink(
    build: Any, rows: int, used: int, new_tokens: int, multiple: int, rows_after: int
):
    model = build(tied=True, rows=rows)
    before = model.get_input_embeddings().weight.detach().clone()
    start_rows = torch.full((new_tokens, before.shape[1]), 7.0)
    grow_rows(model, used, start_rows, multiple=multiple)
    weight = model.get_input_embeddings().weight
    assert len(weight) == model.config.vocab_size == rows_after
    assert torch.equal(weight[:used], before[:used])
    assert torch.equal(weight[used : used + new_tokens], start_rows)
    assert torch.equal(weight[used + new_tokens : rows], before[used + new_tokens :])
    assert model.get_output_embeddings().weight is weight


def test_a_grown_bigram_table_keeps_its_corner_and_holds_the_given_rows_and_columns():
    torch.manual_seed(0)
    old = BigramLanguageModel(3).token_embedding_table.weight.detach().clone()
    torch.manual_seed(0)
    model = BigramLanguageModel(3)
    rows, columns = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[5.0], [6.0], [7.0]])
    grow_rows(model, 3, rows, columns)
    assert torch.equal(model(torch.tensor([[0, 1, 2, 3]]))[0], torch.cat([torch.cat([old, columns], dim=1), rows]))


# training apart


def test_separate_rows_give_the_outputs_of_the_folded_tables(model: Any):
    model.double()  # in single precision two products instead of one differ by rounding, as each machine rounds
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    change_new_rows(model)
    ids = old_and_new_ids()
    apart = logits_of(model, ids)
    fold(model)
    assert not new_row_parameters(model)
    torch.testing.assert_close(apart, logits_of(model, ids), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_separate_rows_answer_to_their_ids_alone(kind: str):
    model = grown(kind, 48)
    embedding = find_tables(model).embedding
    every_id = torch.arange(48)
    before = embedding(every_id)
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    change_new_rows(model)
    extended = next(module for module in model.modules() if isinstance(module, ExtendedEmbedding))
    changed = (extended(every_id) != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == list(range(FIRST_NEW_ID, FIRST_NEW_ID + NEW_TOKENS))


def test_separating_and_folding_alone_changes_no_bit(model: Any):
    before = weights(model)
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    fold(model)
    after = weights(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_trained_rows_reach_only_the_new_rows_when_folded(model: Any):
    before = weights(model)
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    change_new_rows(model)
    fold(model)
    for name, tensor in weights(model).items():
        changed = (tensor != before[name]).nonzero()
        if is_table(name):
            reached = (changed >= FIRST_NEW_ID) & (changed < FIRST_NEW_ID + NEW_TOKENS)
            of_bigram = tensor.ndim == 2 and tensor.shape[0] == tensor.shape[1]
            assert (reached.any(dim=1) if of_bigram else reached[:, 0]).all()
            assert len(changed) > 0
        else:
            assert len(changed) == 0


def test_gradients_equal_those_of_training_the_whole_matrices(model: Any):
    whole = copy.deepcopy(model)
    ids = old_and_new_ids()
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    for one in (whole, model):
        logits = logits_of(one, ids[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    tables: Any = find_tables(whole)
    place = slice(FIRST_NEW_ID, FIRST_NEW_ID + NEW_TOKENS)
    expected = [tables.embedding.weight.grad[place]]
    if tables.head is None:
        expected.append(tables.embedding.weight.grad[:FIRST_NEW_ID, place])
    else:
        expected += [] if tables.tied else [tables.head.weight.grad[place]]
        expected += [] if tables.head.bias is None else [tables.head.bias.grad[place]]
    found = list(new_row_parameters(model).values())
    assert len(found) == len(expected)
    for parameter, gradient in zip(found, expected, strict=True):
        assert gradient.abs().max() > 0
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


def test_nothing_trains_but_the_new_rows(model: Any):
    tables = find_tables(model)
    if tables.head is None:
        sizes = [NEW_TOKENS * (FIRST_NEW_ID + NEW_TOKENS), NEW_TOKENS * FIRST_NEW_ID]
    else:
        sizes = [NEW_TOKENS * WIDTH] * (1 if tables.tied else 2) + [NEW_TOKENS] * (tables.head.bias is not None)
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained.keys() == new_row_parameters(model).keys()
    assert [parameter.numel() for parameter in trained.values()] == sizes


class Results(TorchDispatchMode):
    """Every tensor that an operation gives, in the forward and the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.tensors += [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        return result


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_makes_no_tensor_of_the_size_of_a_table(kind: str):
    rows = 5000
    model = make(kind, rows)
    separate_new_rows(model, rows - NEW_TOKENS, NEW_TOKENS)
    held = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with Results() as results:
        logits_of(model, torch.tensor([[1, rows - 1]])).logsumexp(dim=-1).sum().backward()
    made = [tensor.numel() for tensor in results.tensors if tensor.untyped_storage().data_ptr() not in held]
    assert max(made) == 2 * rows  # the logits of two tokens


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "scratch" not in kind])
def test_folded_saved_and_reloaded_a_model_gives_the_same_logits_and_is_tied_as_before(kind: str, tmp_path):
    model = grown(kind, 43)
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    change_new_rows(model)
    fold(model)
    model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits_of(reloaded, old_and_new_ids()), logits_of(model, old_and_new_ids()))
    tables = find_tables(reloaded)
    assert tables.head is not None
    assert (tables.head.weight.data_ptr() == tables.embedding.weight.data_ptr()) == KINDS[kind][1]


# what cannot be done


def scaled_embedding() -> Any:
    class Scaled(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids) * 4

    model = make("gpt2 untied")
    model.set_input_embeddings(Scaled(FIRST_NEW_ID, WIDTH))
    return model


def head_of_other_rows() -> Any:
    model = make("gpt2 untied")
    model.lm_head = nn.Linear(WIDTH, FIRST_NEW_ID + 1)
    return model


def separated() -> Any:
    model = grown("llama tied")
    separate_new_rows(model, FIRST_NEW_ID, NEW_TOKENS)
    return model


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (scaled_embedding, "found Scaled as embedding"),
        (separated, "found ExtendedEmbedding as embedding"),
        (head_of_other_rows, "expected as many rows in both"),
    ],
)
def test_tables_that_are_not_plain_are_refused(build, found: str):
    with pytest.raises(InputError, match=found) as error:
        find_tables(build())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "first_new_id", "input_shape", "output_shape", "found"),
    [
        ("gpt2 tied", FIRST_NEW_ID + 1, (2, WIDTH), None, "has 40 rows and the tokenizer ids up to 40"),
        ("gpt2 tied", FIRST_NEW_ID, (2, WIDTH + 1), None, r"found shapes \(\(2, 17\), None\)"),
        ("gpt2 tied", FIRST_NEW_ID, (2, WIDTH), (2, WIDTH), r"expected \(\(2, 16\), None\)"),
        ("gpt2 untied", FIRST_NEW_ID, (2, WIDTH), None, r"expected \(\(2, 16\), \(2, 16\)\)"),
        ("bigram", FIRST_NEW_ID, (2, FIRST_NEW_ID), (FIRST_NEW_ID, 2), r"expected \(\(2, 42\), \(40, 2\)\)"),
        ("bigram", FIRST_NEW_ID - 1, (2, 41), (39, 2), "ids up to 38, expected a row for each id"),
    ],
)
def test_start_rows_that_do_not_fit_are_refused_and_change_nothing(
    kind: str, first_new_id: int, input_shape, output_shape, found: str
):
    model = BigramLanguageModel(FIRST_NEW_ID) if kind == "bigram" else make(kind)
    before = weights(model)
    with pytest.raises(InputError, match=found):
        grow_rows(
            model, first_new_id, torch.ones(input_shape), None if output_shape is None else torch.ones(output_shape)
        )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "settings", "found"),
    [
        ("gpt2 tied", {"output_biases": torch.ones(2)}, r"output_biases: found shape \(2,\), expected None"),
        ("phi untied", {"output_biases": torch.ones(3)}, r"found shape \(3,\), expected \(2,\)"),
        ("gpt2 tied", {"multiple": 0}, "multiple: found 0, expected at least 1"),
        ("bigram", {"multiple": 64}, "multiple: found 64, expected 1: a bigram table has a row for each column"),
    ],
)
def test_biases_and_multiples_that_do_not_fit_are_refused_and_change_nothing(kind: str, settings, found: str):
    model = BigramLanguageModel(FIRST_NEW_ID) if kind == "bigram" else make(kind)
    before = weights(model)
    rows: Any = (torch.ones(2, FIRST_NEW_ID + 2), torch.ones(FIRST_NEW_ID, 2))
    with pytest.raises(InputError, match=found):
        grow_rows(model, FIRST_NEW_ID, *(rows if kind == "bigram" else start_rows_for(kind, 2)), **settings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("new_tokens", [0, NEW_TOKENS + 1])
def test_rows_that_are_not_there_cannot_be_separated(new_tokens: int):
    with pytest.raises(InputError, match=r"have 45 rows, expected rows for \d new tokens from id 40 on"):
        separate_new_rows(grown("gpt2 tied"), FIRST_NEW_ID, new_tokens)


def test_there_is_nothing_to_fold_in_a_plain_model():
    with pytest.raises(InputError, match="no separate new rows to fold"):
        fold(make("gpt2 tied"))
