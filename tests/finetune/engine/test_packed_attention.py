"""Packed rows give the logits and gradients of the same conversations alone, and no conversation sees another."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MistralConfig, MistralForCausalLM

from finetune.chat.packing import pack, pad, shared_prefix
from finetune.engine import packed_attention
from finetune.engine.packed_attention import PACKED_ATTENTION, Conversations, use_packed_attention, use_usual_attention
from finetune.engine.padding_free import hidden_states, prefix_sharing_is_exact
from finetune.losses.supervised_loss import SupervisedLoss
from scratch_models.loop.micro_batches import IGNORED_TARGET, count_tokens
from tests.finetune.tiny_models import TINY_MODELS, VOCABULARY, tiny_gpt2, tiny_llama

LENGTHS = (7, 1, 12, 2, 30)


def _neox():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=VOCABULARY, initializer_range=0.2, **shape)).eval()


def _with_window(window):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "sliding_window": window}
    return MistralForCausalLM(MistralConfig(vocab_size=VOCABULARY, initializer_range=0.2, **shape)).eval()


MODELS = {
    **TINY_MODELS,
    "neox": _neox,
    "short window": lambda: _with_window(5),
    "long window": lambda: _with_window(64),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture(params=["mask of T x T", "packed attention", "one by one"])
def packing_model(request, model, monkeypatch):
    if request.param != "mask of T x T":
        assert use_packed_attention(model)
    if request.param == "one by one":  # as on a GPU in single precision
        monkeypatch.setattr(packed_attention, "choose_kernel", lambda *_: packed_attention.attend_one_by_one)
        monkeypatch.setattr(packed_attention, "knows_windows", lambda device: False)
    return model


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(VOCABULARY, (length + 1,), generator=generator).tolist() for length in LENGTHS]
    return [(one[:-1], [IGNORED_TARGET, *one[2:]] if len(one) > 2 else one[1:]) for one in ids]


def _logits(model, batch):
    positions = {"position_ids": batch["position_ids"]} if "position_ids" in batch else {}
    return model(input_ids=batch["input_ids"], use_cache=False, **positions).logits


def test_packed_logits_are_those_of_each_conversation_alone(packing_model, rows):
    packed = _logits(packing_model, pack(rows))[0].split(LENGTHS)
    for found, row in zip(packed, rows, strict=True):
        torch.testing.assert_close(found, _logits(packing_model, pad([row]))[0], rtol=0, atol=1e-5)


def test_several_packed_rows_of_one_length_share_a_micro_batch(packing_model, rows):
    first, second = pack(rows), pack(rows[::-1])
    both = {name: torch.cat([first[name], second[name]]) for name in first}
    alone = torch.cat([_logits(packing_model, first), _logits(packing_model, second)])
    torch.testing.assert_close(_logits(packing_model, both), alone, rtol=0, atol=1e-5)


def test_another_conversation_in_the_row_changes_not_one_bit_before_it_and_next_to_nothing_behind_it(
    packing_model, rows
):
    before = _logits(packing_model, pack(rows))[0].split(LENGTHS)
    rows[2] = ([(id_ + 1) % VOCABULARY for id_ in rows[2][0]], rows[2][1])
    after = _logits(packing_model, pack(rows))[0].split(LENGTHS)
    assert not torch.equal(before[2], after[2])
    for place in (0, 1, 3, 4):
        torch.testing.assert_close(after[place], before[place], rtol=0, atol=1e-6)


def test_gradients_of_packed_rows_are_those_of_padded_ones(packing_model, rows):
    loss_model = SupervisedLoss(packing_model)
    packing_model.requires_grad_(True)
    gradients = []
    for batch in (pack(rows), pad(rows)):
        packing_model.zero_grad()
        loss_model(**batch).backward()
        gradients.append(torch.cat([one.grad.flatten() for one in packing_model.parameters() if one.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-6 * gradients[1].norm()


@pytest.fixture
def with_prefix():
    """Rows that begin with the same 11 tokens, of which nothing is learned."""
    generator = torch.Generator().manual_seed(2)
    rows = []
    for length in (5, 1, 70, 17):
        ids = list(range(11)) + torch.randint(VOCABULARY, (length + 1,), generator=generator).tolist()
        rows.append((ids[:-1], [IGNORED_TARGET] * 11 + ids[12:]))
    return rows


def test_a_prefix_that_stands_once_gives_the_logits_and_gradients_of_each_conversation_alone(model, with_prefix):
    assert shared_prefix(with_prefix) == 11
    assert use_packed_attention(model) and prefix_sharing_is_exact(model)
    batch = pack(with_prefix, 11)
    assert batch["input_ids"].shape[1] == 11 + 5 + 1 + 70 + 17
    found = hidden_states(model, batch["input_ids"], batch["position_ids"])[0].split([11 + 5, 1, 70, 17])
    for number, (of_row, (ids, _)) in enumerate(zip(found, with_prefix, strict=True)):
        alone = hidden_states(model, torch.tensor([ids]))[0]
        torch.testing.assert_close(of_row, alone if number == 0 else alone[11:], rtol=0, atol=1e-5)

    loss_model = SupervisedLoss(model)
    model.requires_grad_(True)
    losses, gradients = [], []
    for one in (batch, pad(with_prefix)):
        model.zero_grad()
        losses.append(loss_model(**one))
        losses[-1].backward()
        gradients.append(torch.cat([part.grad.flatten() for part in model.parameters() if part.grad is not None]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-6, atol=0)
    assert (gradients[0] - gradients[1]).norm() <= 2e-6 * gradients[1].norm()
    assert count_tokens(batch) == count_tokens(pack(with_prefix)) == sum(len(ids) for ids, _ in with_prefix)


def test_under_another_attention_a_prefix_that_stands_once_is_seen_to_be_wrong(model):
    assert not prefix_sharing_is_exact(model)


def test_no_mask_of_all_places_is_made_and_a_window_too_short_is_kept_to(rows, monkeypatch):
    made = []

    def spy(**options):
        made.append(options["q_length"])
        return usual(**options)

    usual = packed_attention.sdpa_mask
    monkeypatch.setattr(packed_attention, "sdpa_mask", spy)
    for knows_windows, of_short_window in ((True, 0), (False, 1)):
        monkeypatch.setattr(packed_attention, "knows_windows", lambda device, knows=knows_windows: knows)
        for name, wanted in {"gpt2": 0, "llama": 0, "long window": 0, "short window": of_short_window}.items():
            model = MODELS[name]()
            use_packed_attention(model)
            _logits(model, pack(rows))
            assert len(made) == wanted, name


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_the_kernel_is_given_every_conversation_and_its_output_is_taken(make, rows, monkeypatch):
    """The kernel needs a GPU; here stands what its documentation says that it computes."""

    def kernel(query, key, value, *starts_and_longest, scale, window_size):
        starts, also_starts, *longest = starts_and_longest
        assert (starts.tolist(), longest, window_size) == ([0, 7, 8, 20, 22, 52], [30, 30], (-1, 0))
        assert starts.dtype == torch.int32 and also_starts is starts
        assert query.shape == key.shape == value.shape == (52, 4, 8)
        parts = []
        for start, end in pairwise(starts.tolist()):
            q, k, v = (one[start:end].transpose(0, 1) for one in (query, key, value))  # (H, L, E)
            scores = (q @ k.transpose(1, 2) * scale).masked_fill(torch.ones(end - start, end - start).triu(1) > 0, -1e9)
            parts.append((scores.softmax(-1) @ v).transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(packed_attention, "varlen_attn", kernel)
    monkeypatch.setattr(packed_attention, "choose_kernel", lambda *_: packed_attention.attend_by_varlen)
    model = make()
    expected = _logits(model, pack(rows))
    use_packed_attention(model)
    torch.testing.assert_close(_logits(model, pack(rows)), expected, rtol=0, atol=1e-5)


def test_dropout_is_drawn_where_it_is_asked_for(rows):
    model = tiny_gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.5).train()
    use_packed_attention(model)
    with torch.no_grad():
        assert not torch.equal(_logits(model, pack(rows)), _logits(model, pack(rows)))


def test_padded_rows_and_generation_are_transformers_own(model):
    prompt = torch.tensor([[3, 5, 8]])
    settings = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    expected, logits = model.generate(prompt, **settings), _logits(model, {"input_ids": prompt})
    use_packed_attention(model)
    assert torch.equal(model.generate(prompt, **settings), expected)
    assert torch.equal(_logits(model, {"input_ids": prompt}), logits)
    padding = torch.tensor([[0, 1, 1]])
    masked = model(input_ids=prompt, attention_mask=padding).logits
    use_usual_attention(model)
    assert torch.equal(model(input_ids=prompt, attention_mask=padding).logits, masked)


def test_it_is_turned_off_again_and_leaves_another_attention_alone(model, tmp_path):
    assert use_packed_attention(model)
    assert model.config._attn_implementation == PACKED_ATTENTION
    model.save_pretrained(tmp_path)
    assert PACKED_ATTENTION not in (tmp_path / "config.json").read_text()
    use_usual_attention(model)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    assert not use_packed_attention(model)
    assert model.config._attn_implementation == "eager"


def test_attention_of_one_conversation_is_torchs_own():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 4, 9, 8) for _ in range(3))
    alone = Conversations([9], torch.tensor([0, 9], dtype=torch.int32))
    found = packed_attention.attend_one_by_one(query, key, value, alone, 0.0, None).unsqueeze(0)
    assert torch.equal(found, F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2))
