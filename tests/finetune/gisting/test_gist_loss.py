"""Gist tokens that read as the prompt cost nothing, and what trains has the gradient of the plain formula."""

import pytest
import torch
from torch.nn import functional as F

from finetune.gisting.gist_loss import GistBatches, GistLoss, make_gist_optimizer
from finetune.gisting.monitor import GistMonitor, HeldOut, divergences
from finetune.gisting.teacher import states_of
from tests.finetune.extended_models import save_base
from tests.finetune.gisting.tiny_gists import PROMPT, QUESTIONS, REPLIES, save_chat_base, teach
from tokenizer_ext.huggingface.hf_model import load_model, load_tokenizer


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def bases(request, tmp_path_factory):
    """A tied GPT-2 or an untied Llama, without a template and with one."""
    folder = tmp_path_factory.mktemp(request.param)
    return {
        False: save_base(request.param, folder / "plain"),
        True: save_chat_base(request.param, folder / "chat"),
    }


def _monitor(taught):
    held_out = HeldOut(QUESTIONS, REPLIES, taught.hidden)
    return GistMonitor(taught.gist, GistLoss(taught.gist, taught.engine), held_out, tokens=500)


@pytest.mark.parametrize("in_template", [False, True])
def test_as_many_rows_as_the_prompt_has_begin_as_its_own_and_leave_nothing(bases, in_template):
    monitor = _monitor(teach(bases[in_template], in_template=in_template))
    without = divergences(monitor.without)
    assert min(without) > 1e-3
    assert monitor(0)["held_out_kl_share"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("in_template", [False, True])
def test_behind_nothing_the_share_that_is_left_is_all(bases, in_template):
    monitor = _monitor(teach(bases[in_template], 3, in_template=in_template))
    monitor.gist.form.after_gist = monitor.gist.form.after_nothing
    assert monitor(0)["held_out_kl_share"] == 1


@pytest.mark.parametrize("in_template", [False, True])
def test_gradient_of_the_rows_is_that_of_the_formula_by_transformers_alone(bases, in_template):
    taught = teach(bases[in_template], 3, in_template=in_template)
    gist, base = taught.gist, load_model(str(bases[in_template]))
    (micro_batch,) = GistBatches(taught.rows, taught.hidden, 4, 500, 0, taught.engine).micro_batches(0, 0, 1)
    ours = GistLoss(gist, taught.engine)(**micro_batch)
    ours.backward()
    gradient, gist.rows.grad = gist.rows.grad, None
    taught.engine.release()

    nats = torch.zeros(())
    for question, reply in zip(QUESTIONS, REPLIES, strict=True):
        asked, read = gist.form.after_prompt(question.messages), gist.form.after_gist(question.messages)
        with torch.no_grad():
            wanted = base(torch.tensor([[*asked, *reply]])).logits[0, len(asked) - 1 : -1].log_softmax(dim=1)
        logits = gist.model(torch.tensor([[*read, *reply]])).logits[0, len(read) - 1 : -1]
        found = (logits if gist.tied else logits[:, : wanted.shape[1]]).log_softmax(dim=1)
        nats = nats + F.kl_div(found[:, : wanted.shape[1]], wanted, reduction="sum", log_target=True)
    nats.backward()
    torch.testing.assert_close(ours, nats, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, gist.rows.grad, rtol=1e-3, atol=1e-5)


def test_padded_and_packed_rows_in_any_number_of_micro_batches_and_processes_are_one_step(bases):
    taught = teach(bases[False], 3)
    loss, found = GistLoss(taught.gist, taught.engine), []
    for packs, tokens, processes in ((True, 500, 1), (True, 40, 1), (False, 500, 1), (False, 500, 2), (True, 500, 8)):
        taught.engine.packs = taught.engine.shares_prefixes = packs
        batches = GistBatches(taught.rows, taught.hidden, 4, tokens, 0, taught.engine)
        shares = [batches.micro_batches(0, rank, processes) for rank in range(processes)]
        nats = sum(loss(**micro_batch) for some in shares for micro_batch in some)
        nats.backward()
        found.append((nats.detach(), taught.gist.rows.grad))
        taught.gist.rows.grad = None
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-5)


def test_nothing_but_the_rows_of_the_embedding_trains(bases):
    taught = teach(bases[True], 3, in_template=True)
    trained = [parameter for parameter in taught.gist.model.parameters() if parameter.requires_grad]
    (group,) = make_gist_optimizer(taught.gist, 0.1, 0.0).param_groups
    assert len(trained) == 1 and trained[0] is taught.gist.rows and group["params"][0] is trained[0]


def test_rows_of_a_head_of_its_own_are_never_the_first_choice(tmp_path):
    taught = teach(save_base("llama", tmp_path), 3)
    head = taught.gist.model.get_output_embeddings()
    scores = head(torch.randn(500, head.new_rows.shape[1]) * 10)
    assert int(scores.argmax(dim=1).max()) < taught.gist.extended.first_new_id


def test_states_of_the_teacher_are_those_of_the_base_before_it_had_rows(bases):
    taught = teach(bases[False], 3)
    base, tokenizer = load_model(str(bases[False])), load_tokenizer(str(bases[False]))
    for question, reply, states in zip(QUESTIONS, REPLIES, taught.hidden, strict=True):
        text = f"{PROMPT}\n\nQuestion: {question.messages[0].content}\nAnswer:"
        asked = tokenizer.encode(text, add_special_tokens=False)
        ids = torch.tensor([[*asked, *reply]])
        with torch.no_grad():
            expected = base.base_model(ids).last_hidden_state[0, len(asked) - 1 : -1]
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
    again = states_of(taught.gist.model, taught.rows, taught.engine, 40, "in small groups")
    together = states_of(taught.gist.model, taught.rows, taught.engine, 500, "together")
    torch.testing.assert_close(again, together, rtol=1e-4, atol=1e-5)
