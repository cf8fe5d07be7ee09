"""What new rows read: every byte that is measured is counted once, and no more is held out than is asked for."""

import pytest
import torch

from configs import InputError
from finetune.chat.graft_format import CONTROL_TOKENS
from finetune.conversations.formats import Conversation, Message
from finetune.conversations.splits import ConversationSplits
from finetune.rows.dataset import Texts, conversation_dataset, count_target_bytes, read_texts, text_dataset
from scratch_models.loop.micro_batches import IGNORED_TARGET
from tests.finetune.extended_models import TEXTS
from tests.finetune.tiny_models import questions

LIMITS = {"block_size": 8, "blocks_per_batch": 2, "evaluation_blocks": 1000}


def _targets(dataset):
    rows = [row for micro_batch in dataset.held_out.micro_batches for row in micro_batch["targets"]]
    return torch.cat([row[row != IGNORED_TARGET] for row in rows])


def test_every_byte_of_a_held_out_text_is_measured_but_those_of_its_first_token(chat_tokenizer):
    dataset = text_dataset(Texts([TEXTS[0] * 9], ["Zygomörphic"], ""), chat_tokenizer, **LIMITS)
    ids = chat_tokenizer.encode("Zygomörphic")
    assert _targets(dataset).tolist() == ids[1:]
    assert dataset.held_out.text_bytes == len("ygomörphic".encode())


def test_documents_lie_between_ends_of_text_which_count_as_no_bytes(chat_tokenizer):
    end = chat_tokenizer.eos_token_id
    dataset = text_dataset(Texts([TEXTS[0] * 9], ["ab", "ç<|endoftext|>"], ""), chat_tokenizer, **LIMITS)
    expected = [*chat_tokenizer.encode("ab"), end]
    assert _targets(dataset).tolist()[: len(expected)] == expected
    assert dataset.held_out.text_bytes == len("abç<|endoftext|>".encode()) and dataset.end_id == end


def test_a_few_blocks_are_spread_over_all_that_is_held_out(chat_tokenizer):
    texts = Texts([TEXTS[0] * 9], [" ".join(TEXTS)], "")
    whole = text_dataset(texts, chat_tokenizer, **LIMITS)
    some = text_dataset(texts, chat_tokenizer, **{**LIMITS, "evaluation_blocks": 4})
    rows = torch.cat([micro_batch["input_ids"] for micro_batch in whole.held_out.micro_batches])
    (chosen,) = some.held_out.micro_batches
    places = [place * len(rows) // 4 for place in range(4)]
    assert torch.equal(chosen["input_ids"], rows[places])
    assert some.held_out.text_bytes == count_target_bytes(some.held_out.micro_batches, chat_tokenizer)
    assert some.prompts == rows[places].tolist()


def test_the_last_tenth_of_a_file_is_held_out(tmp_path):
    (tmp_path / "text.txt").write_text("abcdefghij" * 10)
    texts = read_texts(str(tmp_path / "text.txt"))
    assert (texts.training, texts.held_out) == (["abcdefghij" * 9], ["abcdefghij"])


def _sets(number=30):
    made = [
        Conversation((Message("user", asked), Message("assistant", answer)), "p") for asked, answer in questions(number)
    ]
    return ConversationSplits(made[:-6], made[-6:], [], {})


OF_CHATS = {"conversations_per_step": 4, "tokens_per_micro_batch": 256, "evaluation_conversations": 3}


def test_of_conversations_the_replies_are_measured_and_the_questions_are_prompts(chat_tokenizer):
    splits = _sets()
    dataset = conversation_dataset(splits, chat_tokenizer, maximum_tokens=200, **OF_CHATS)
    read = [splits.held_out[place] for place in (0, 2, 4)]
    assert dataset.held_out.text_bytes == sum(len(one.messages[1].content.encode()) for one in read)
    assert [chat_tokenizer.decode(prompt) for prompt in dataset.prompts] == [
        f"<|user|>{one.messages[0].content}<|end|><|assistant|>" for one in read
    ]
    assert chat_tokenizer.decode([dataset.end_id]) == CONTROL_TOKENS[-1]
    assert dataset.epochs_per_step == pytest.approx(1 / 6)


def test_the_same_seed_reads_the_same_and_another_reads_other_text(chat_tokenizer):
    texts = text_dataset(Texts([" ".join(TEXTS)], [TEXTS[0]], ""), chat_tokenizer, **LIMITS)
    chats = conversation_dataset(_sets(), chat_tokenizer, maximum_tokens=200, **OF_CHATS)
    for dataset in (texts, chats):
        first, again, other = (dataset.make_batches(seed).micro_batches(0, 0, 1)[0] for seed in (1, 1, 2))
        assert torch.equal(first["input_ids"], again["input_ids"])
        assert first["input_ids"].shape != other["input_ids"].shape or (first["input_ids"] != other["input_ids"]).any()


def test_a_text_shorter_than_a_block_is_refused(chat_tokenizer):
    with pytest.raises(InputError, match="expected at least 9 for one block of 8"):
        text_dataset(Texts(["abc"], ["abc def"], ""), chat_tokenizer, **LIMITS)
