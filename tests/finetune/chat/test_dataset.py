"""What a run reads: each conversation is learned from, held out or counted; the monitor measures those held out."""

import math
from dataclasses import replace

import pytest
import torch

from configs import InputError
from finetune.chat.batches import ConversationBatches
from finetune.chat.dataset import first_example, prepare_dataset
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Conversation, Message
from finetune.conversations.splits import ConversationSplits
from finetune.evaluation.scoring import Answered, choose_watched
from finetune.lora.adapter_shape import Lora
from finetune.lora.trainable_model import make_trainable_model
from finetune.supervised.monitor import HeldOutMonitor
from scratch_models.corpus.evenly_spaced import evenly_spaced
from scratch_models.loop.devices import make_accelerator
from tests.finetune.tiny_models import tiny_gpt2
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id


def _conversation(question, reply="It is 72.", answer=None):
    return Conversation((Message("user", question), Message("assistant", reply)), "p", answer)


SHORT = [_conversation(f"What is {n}?", "é" * (n + 1)) for n in range(30)]
LONG = [_conversation("the sum " * 40 + str(n)) for n in range(4)]


def _prepare(tokenizer, training, held_out, **changes):
    limits = {"maximum_tokens": 80, "held_out_conversations": 6, "conversations_per_step": 4}
    splits = ConversationSplits(training, held_out, [], left_out={"messages after a last reply": 2})
    return prepare_dataset(GraftFormat(tokenizer), splits, **{**limits, **changes}, tokens_per_micro_batch=512, seed=0)


def test_replies_that_count_less_are_counted_and_what_is_held_out_counts_in_full(chat_tokenizer):
    """Held-out loss is a measure: weights say what to learn more of."""
    weighted = [replace(one, messages=(one.messages[0], replace(one.messages[1], weight=0.5))) for one in SHORT]
    dataset = _prepare(chat_tokenizer, weighted[:9] + SHORT[9:] + LONG, weighted, held_out_conversations=100)
    assert (dataset.assistant_turns, dataset.partly_learned) == (30, 9)
    assert "30 of 30 ends of an assistant's turn, 9 of which count less than 1 in the loss" in dataset.describe()
    assert dataset.held_out == GraftFormat(chat_tokenizer).render_set(SHORT)
    assert "weights" not in ConversationBatches(dataset.held_out, 30, 512, seed=0).micro_batches(0, 0, 1)[0]
    assert "less than 1" not in _prepare(chat_tokenizer, SHORT, weighted).describe()


def test_every_conversation_is_read_or_counted(chat_tokenizer):
    dataset = _prepare(chat_tokenizer, SHORT + LONG, SHORT + LONG[:3], held_out_conversations=100)
    assert dataset.training == dataset.held_out == GraftFormat(chat_tokenizer).render_set(SHORT)
    assert dict(dataset.left_out) == {
        "messages after a last reply": 2,
        "conversations of more than 80 tokens": 4,
        "conversations in which nothing is learned": 0,
        "held-out conversations of more than 80 tokens": 3,
    }
    assert all(f"{count} {what}" in dataset.describe() for what, count in dataset.left_out.items() if count)


def test_an_epoch_is_described_by_its_tokens_and_those_of_them_that_are_learned(chat_tokenizer):
    dataset = _prepare(chat_tokenizer, SHORT, SHORT)
    tokens = sum(len(one.input_ids) for one in dataset.training)
    supervised = sum(sum(one.supervised) for one in dataset.training)
    described = (
        f"30 conversations to learn from; an epoch is 8 steps and {tokens:,} tokens, {supervised / tokens:.0%} of them "
        "supervised, with 30 of 30 ends of an assistant's turn\n"
    )
    assert dataset.describe().startswith(described)


def test_evaluations_read_held_out_conversations_from_all_over_the_set_and_know_their_bytes(chat_tokenizer):
    dataset = _prepare(chat_tokenizer, SHORT, LONG[:1] + SHORT)
    chosen = evenly_spaced(SHORT, 6)
    assert dataset.held_out == GraftFormat(chat_tokenizer).render_set(chosen)
    assert dataset.held_out_reply_bytes == sum(len(one.messages[-1].content.encode()) for one in chosen)


@pytest.mark.parametrize(("training", "held_out", "said"), [(LONG, SHORT, "4 conv"), (SHORT, LONG, "4 held-out conv")])
def test_a_limit_that_nothing_fits_is_refused(chat_tokenizer, training, held_out, said):
    with pytest.raises(InputError, match=f"maximum_tokens 80: none of {said}ersations fits"):
        _prepare(chat_tokenizer, training, held_out)


def test_the_first_example_shows_what_is_learned(chat_tokenizer):
    shown = first_example(_prepare(chat_tokenizer, [_conversation("What?")], SHORT), colour=False)
    assert shown == "<|user|>What?<|end|><|assistant|>[[It is 72.<|end|>]]"


def test_the_monitor_measures_transformers_loss_per_supervised_token_and_per_byte_of_reply(chat_tokenizer):
    model = tiny_gpt2(next_token_id(chat_tokenizer))
    lora = Lora(rank=4, alpha=8.0, dropout=0.0)
    trainable = make_trainable_model(model, chat_tokenizer, [], new_tokens=0, lora=lora)
    dataset = _prepare(chat_tokenizer, SHORT, SHORT)
    asked = [Answered(SHORT[0], "of the base", True)]
    found = HeldOutMonitor(trainable, dataset, asked, make_accelerator("fp32"), reply_tokens=4)(7)
    model.eval()
    nats, supervised = 0.0, 0
    for one in dataset.held_out:
        ids = torch.tensor([one.input_ids])
        labels = torch.tensor(
            [[id_ if learned else -100 for id_, learned in zip(one.input_ids, one.supervised, strict=True)]]
        )
        nats += model(ids, labels=labels).loss.item() * sum(one.supervised)
        supervised += sum(one.supervised)
    assert found["held_out_loss_nats"] == pytest.approx(nats / supervised, rel=1e-5)
    assert found["held_out_bits_per_byte"] == pytest.approx(nats / math.log(2) / dataset.held_out_reply_bytes, rel=1e-5)
    (sample,) = found["sample_replies"]
    assert (sample["question"], sample["base"]) == ("What is 0?", "of the base")


@pytest.mark.parametrize(
    ("answers", "watched"),
    [(["1", "2", None], [0, 2]), ([None, None, "3"], [0, 2]), (["1", "2", "3"], [0, 1]), ([None], [0]), ([], [])],
)
def test_one_question_of_each_kind_is_watched_where_there_are_both(answers, watched):
    answered = [Answered(_conversation(str(n), answer=answer), "", True) for n, answer in enumerate(answers)]
    assert choose_watched(answered) == [answered[place] for place in watched]


def test_the_end_of_every_turn_that_is_not_left_out_is_learned(chat_tokenizer):
    said = (Message("user", "<|end|>"), Message("assistant", "It is <|end|> 72."))
    talks = [Conversation(said * turns, "p") for turns in (1, 2, 3, 40)]
    dataset = _prepare(chat_tokenizer, talks, SHORT, maximum_tokens=200)
    assert (dataset.assistant_turns, dataset.learned_ends) == (6, 6)
    end = GraftFormat(chat_tokenizer).end_id
    learned = [id_ for one in dataset.training for id_, flag in zip(one.input_ids, one.supervised, strict=True) if flag]
    assert learned.count(end) == 6


def test_material_from_the_cache_is_the_material_without_one(chat_tokenizer, tmp_path):
    plain = _prepare(chat_tokenizer, SHORT + LONG, SHORT)
    for _ in range(2):
        cached = _prepare(chat_tokenizer, SHORT + LONG, SHORT, cache=tmp_path)
        assert (cached.training, cached.held_out) == (plain.training, plain.held_out)
        assert cached.describe() == plain.describe()
    assert len(list(tmp_path.iterdir())) == 2, "what is learned from, and what is held out"


def test_packing_is_described(chat_tokenizer):
    dataset = _prepare(chat_tokenizer, SHORT, SHORT, packed=True)
    assert dataset.describe().startswith("30 conversations to learn from, packed end to end; an epoch")
    assert all("position_ids" in batch for batch in dataset.batches.micro_batches(0, 0, 1))
