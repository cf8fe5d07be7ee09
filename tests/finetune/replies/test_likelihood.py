"""Costs of known replies: transformers' own loss row by row, and with the calculator only what a model says itself."""

import pytest
import torch

from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.scoring import evaluate, plain_prompt_formats
from finetune.replies import likelihood as reply_likelihood
from finetune.replies.generation import Reply
from finetune.replies.likelihood import reply_costs, row_nats
from finetune.replies.prompts import ChatPromptFormat
from scratch_models.corpus.bits_per_byte import bits_per_byte
from tests.finetune.evaluated import ask_in_chat, evaluate_base
from tests.finetune.known_replies import known_reply
from tests.finetune.tiny_models import TINY_MODELS, tiny_gpt2
from tokenizer_ext.embeddings.tables import separate_new_rows
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id

VOCABULARY = 61
ROWS = [
    ([1, 2, 3, 4], [-100, 3, 4, 5]),
    ([7], [8]),
    ([9, 10, 11, 12, 13, 14, 15], [-100, -100, -100, 13, -100, 15, 16]),
    ([5, 6], [-100, -100]),
    ([20, 21, 22], [21, 22, 23]),
]
QUESTION = Message("user", "How many?")
REPLY = "48/2 = <<48/2=24>>24 é."
ASKED = [Conversation((QUESTION, Message("assistant", REPLY)), "a:1", answer="24")]


def _by_transformers(model, row):
    input_ids, targets = row
    if set(targets) == {-100}:
        return 0.0
    labels = torch.tensor([[-100, *targets]])  # transformers moves the labels by one itself
    ids = torch.tensor([[*input_ids, 0]])
    with torch.no_grad():
        return model(ids, labels=labels).loss.item() * sum(target != -100 for target in targets)


@pytest.mark.parametrize("kind", TINY_MODELS)
@pytest.mark.parametrize("tokens", [1, 8, 8192])
def test_each_row_costs_what_transformers_loss_says_whatever_shares_its_batch(kind, tokens, monkeypatch):
    monkeypatch.setattr(reply_likelihood, "TOKENS_PER_MICRO_BATCH", tokens)
    monkeypatch.setattr(reply_likelihood, "POSITIONS_PER_CHUNK", 2)
    model = TINY_MODELS[kind](VOCABULARY)
    assert row_nats(model, ROWS) == pytest.approx([_by_transformers(model, row) for row in ROWS], abs=1e-5)
    assert row_nats(model, []) == []


def test_rows_of_new_tokens_that_train_apart_are_part_of_the_head():
    whole, separate = tiny_gpt2(VOCABULARY), tiny_gpt2(VOCABULARY)
    separate_new_rows(separate, VOCABULARY - 40, 40)
    assert row_nats(separate, ROWS) == pytest.approx(row_nats(whole, ROWS), abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_in_the_mode_that_it_was_in_and_has_no_dropout_meanwhile(training):
    model = tiny_gpt2(VOCABULARY, resid_pdrop=0.5)
    expected = row_nats(model, ROWS)
    assert row_nats(model.train(training), ROWS) == expected
    assert model.training is training


def _costs(model, prompt_format, counted):
    """Nats by transformers of the ids of which `counted` says so, after the prompt."""
    prompt, known = prompt_format.prompt_ids([QUESTION]), known_reply(prompt_format, REPLY)
    targets = [-100] * (len(prompt) - 1) + [id_ if own else -100 for id_, own in zip(known.ids, counted, strict=True)]
    return _by_transformers(model, ([*prompt, *known.ids][:-1], targets))


@pytest.mark.parametrize("name", ["chat", "question", "dialogue", "bare"])
def test_with_the_calculator_its_result_costs_nothing_and_has_no_bytes(chat_tokenizer, name):
    model = tiny_gpt2(next_token_id(chat_tokenizer))
    prompt_format = {
        "chat": ChatPromptFormat(GraftFormat(chat_tokenizer, calculator=True)),
        **plain_prompt_formats(chat_tokenizer, calculator=True),
    }[name]
    known = known_reply(prompt_format, REPLY)
    given = [id_ for id_, own in zip(known.ids, known.own, strict=True) if not own]
    assert chat_tokenizer.decode(given) == "24>>"
    assert chat_tokenizer.decode(known.ids).strip() == REPLY
    (nats,), (text_bytes,) = reply_costs(model, prompt_format, ASKED)
    assert text_bytes == len(REPLY.encode()) - len("24>>")
    assert nats == pytest.approx(_costs(model, prompt_format, known.own), rel=1e-5)
    assert nats < 0.99 * _costs(model, prompt_format, [True] * len(known.ids)), "the result would cost something"
    assert evaluate(model, prompt_format, ASKED, 1).scores.bits_per_byte == pytest.approx(
        bits_per_byte(nats, text_bytes)
    )


def test_without_the_calculator_all_of_the_reply_counts(chat_tokenizer):
    for prompt_format in (
        ChatPromptFormat(GraftFormat(chat_tokenizer)),
        *plain_prompt_formats(chat_tokenizer).values(),
    ):
        known = known_reply(prompt_format, REPLY)
        assert all(known.own) and known.text_bytes == len(REPLY.encode()) and prompt_format.calculator is None


def test_a_known_reply_has_the_ids_that_are_trained(chat_tokenizer):
    chat = GraftFormat(chat_tokenizer, calculator=True)
    rendered, known = (
        chat.render(ASKED[0]),
        known_reply(ChatPromptFormat(GraftFormat(chat_tokenizer, calculator=True)), REPLY),
    )
    prompt = len(chat.render_prompt([QUESTION]))
    assert (known.ids, known.own) == (rendered.input_ids[prompt:-1], rendered.supervised[prompt:-1])
    assert rendered.supervised[-1], "the end of the turn is learned"


@pytest.mark.parametrize("calculator", [True, False])
def test_base_and_assistant_are_asked_with_the_calculator_or_both_without(chat_tokenizer, calculator, monkeypatch):
    seen = []

    def generate(model, prompts, *, calculator, **_):
        seen.append(calculator is not None)
        return [Reply(tuple(chat_tokenizer.encode("<<1+1=2>> <<1+1=3>>")), stopped=True)]

    monkeypatch.setattr("finetune.replies.local_model.generate_ids", generate)
    model = tiny_gpt2(next_token_id(chat_tokenizer))
    evaluations = [
        *evaluate_base(model, chat_tokenizer, ASKED, 4, calculator=calculator).values(),
        ask_in_chat(model, chat_tokenizer, ASKED, 4, calculator=calculator),
    ]
    assert seen == [calculator] * 2
    assert {(one.scores.calculations, one.scores.calculations_right) for one in evaluations} == {(2, 1)}
    assert {one.costs.text_bytes[0] for one in evaluations if one.costs} == {len(REPLY.encode()) - 4 * calculator}
