"""The figures: bits per byte in closed form, exact match, stop rate and repetition on replies known beforehand."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from configs import InputError
from finetune.chat.graft_format import GraftFormat
from finetune.conversations.formats import Conversation, Message
from finetune.evaluation.questions_asked import choose_askable
from finetune.evaluation.reply_checks import contains_answer, is_right, repeats_itself
from finetune.evaluation.scoring import (
    Answered,
    Scores,
    answer,
    base_prompt_formats,
    best_scores,
    evaluate,
    plain_prompt_formats,
    share_of_checkable,
)
from finetune.replies.local_model import LocalModel
from finetune.replies.prompts import PLAIN_PROMPTS, ChatPromptFormat, PlainPromptFormat, fits
from scratch_models.decoding.sampling_settings import Sampling
from tests.finetune.evaluated import ask_in_chat, evaluate_base
from tests.finetune.known_replies import known_reply
from tests.finetune.tiny_models import POSITIONS, tiny_gpt2
from tokenizer_ext.bpe.bpe import train_bpe
from tokenizer_ext.huggingface.hf_tokenizer import next_token_id, to_hf_tokenizer

QUESTION = Message("user", "What is the sum of the numbers?")
CONVERSATIONS = [
    Conversation((QUESTION, Message("assistant", "the sum is 72.")), "a:1", answer="72"),
    Conversation((Message("system", "Be brief."), QUESTION, Message("assistant", "é語 — 72")), "a:2"),
    Conversation((QUESTION, Message("assistant", "Which?"), QUESTION, Message("assistant", "All: 72")), "a:3"),
]


def _uniform_model(tokenizer):
    """A model with equal logits everywhere: each token costs log2(V) bits."""
    model = tiny_gpt2(next_token_id(tokenizer))
    torch.nn.init.zeros_(model.get_input_embeddings().weight)  # tied: the head is zero too
    return model


def _constant_model(tokenizer, token):
    """A model that says one id for ever: its last norm gives a constant and one row of the head points along it."""
    model = tiny_gpt2(next_token_id(tokenizer))
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.fill_(1.0)
        model.get_input_embeddings().weight.zero_()
        model.get_input_embeddings().weight[token] = 1.0
    return model


def _prompt_formats(tokenizer):
    return {"chat": ChatPromptFormat(GraftFormat(tokenizer)), **plain_prompt_formats(tokenizer)}


@pytest.mark.parametrize("name", ["chat", *PLAIN_PROMPTS])
def test_bits_per_byte_of_a_uniform_model_are_log2_of_the_vocabulary_times_tokens_over_bytes(chat_tokenizer, name):
    prompt_format = _prompt_formats(chat_tokenizer)[name]
    separator = PLAIN_PROMPTS[name].separator if name in PLAIN_PROMPTS else ""
    replies = [conversation.messages[-1].content for conversation in CONVERSATIONS]
    tokens = sum(len(chat_tokenizer.encode(separator + reply, add_special_tokens=False)) for reply in replies)
    text_bytes = sum(len(reply.encode()) for reply in replies)  # neither the separator nor the end of the turn
    expected = math.log2(next_token_id(chat_tokenizer)) * tokens / text_bytes
    found = evaluate(_uniform_model(chat_tokenizer), prompt_format, CONVERSATIONS, 1).scores.bits_per_byte
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["chat", *PLAIN_PROMPTS])
def test_bits_per_byte_are_those_of_transformers_loss_on_the_last_reply_alone(chat_tokenizer, name):
    model, prompt_format = tiny_gpt2(next_token_id(chat_tokenizer)), _prompt_formats(chat_tokenizer)[name]
    nats = 0.0
    for conversation in CONVERSATIONS:
        prompt = prompt_format.prompt_ids(conversation.messages[:-1])
        reply = known_reply(prompt_format, conversation.messages[-1].content).ids
        ids = torch.tensor([[*prompt, *reply]])
        labels = torch.tensor([[-100] * len(prompt) + reply])
        nats += model(ids, labels=labels).loss.item() * len(reply)
    text_bytes = sum(len(conversation.messages[-1].content.encode()) for conversation in CONVERSATIONS)
    found = evaluate(model, prompt_format, CONVERSATIONS, 1).scores.bits_per_byte
    assert found == pytest.approx(nats / math.log(2) / text_bytes, rel=1e-5)


def test_a_chat_prompt_and_its_reply_are_the_rendered_conversation_without_its_end(chat_tokenizer):
    chat, prompt_format = GraftFormat(chat_tokenizer), ChatPromptFormat(GraftFormat(chat_tokenizer))
    for conversation in CONVERSATIONS:
        *asked, last = conversation.messages
        assert [*prompt_format.prompt_ids(asked), *known_reply(prompt_format, last.content).ids] == chat.render(
            conversation
        ).input_ids[:-1]


def test_control_tokens_in_a_plain_question_stay_text(chat_tokenizer):
    prompt_format = PlainPromptFormat(chat_tokenizer, PLAIN_PROMPTS["question"])
    ids = (
        prompt_format.prompt_ids([Message("user", "<|end|><|endoftext|>")]) + known_reply(prompt_format, "<|user|>").ids
    )
    assert not set(ids) & set(chat_tokenizer.get_added_vocab().values())


@pytest.mark.parametrize("ended", [True, False])
def test_a_reply_has_stopped_where_the_model_ends_its_turn_and_not_where_the_limit_does(chat_tokenizer, ended):
    chat = GraftFormat(chat_tokenizer)
    word = chat_tokenizer.encode(" the", add_special_tokens=False)[0]
    model = _constant_model(chat_tokenizer, chat.end_id if ended else word)
    evaluation = ask_in_chat(model, chat_tokenizer, CONVERSATIONS, 12)
    spoken = chat_tokenizer.decode([word] * 12).strip()
    assert [one.reply for one in evaluation.answered] == ["" if ended else spoken] * 3
    assert evaluation.scores.stop_rate == float(ended)
    assert evaluation.scores.repetition_rate == (0.0 if ended else float(repeats_itself(spoken)))
    assert (evaluation.scores.conversations, evaluation.scores.checkable) == (3, 1)


def test_a_base_that_ends_its_text_has_stopped(chat_tokenizer):
    model = _constant_model(chat_tokenizer, chat_tokenizer.eos_token_id)
    plain = plain_prompt_formats(chat_tokenizer).values()
    assert [evaluate(model, one, CONVERSATIONS, 12).scores.stop_rate for one in plain] == [1.0, 1.0, 1.0]
    (in_chat,) = evaluate_base(model, chat_tokenizer, CONVERSATIONS, 12).values()
    assert in_chat.scores.stop_rate == 0.0, "no chat ends so"


def test_a_base_that_knows_no_chat_format_is_asked_in_plain_text_alone():
    bpe = train_bpe(["plain text"] * 2, 260, special_tokens=["<|endoftext|>"])
    assert list(base_prompt_formats(to_hf_tokenizer(bpe.ranks, bpe.special_tokens))) == list(PLAIN_PROMPTS)


def test_the_last_reply_is_asked_for_after_all_that_came_before_it(chat_tokenizer):
    model, chat = tiny_gpt2(next_token_id(chat_tokenizer)), GraftFormat(chat_tokenizer)
    talk = CONVERSATIONS[2]
    (found,) = answer(model, ChatPromptFormat(GraftFormat(chat_tokenizer)), [talk], 8)
    prompt = torch.tensor([chat.render_prompt(talk.messages[:3])])
    greedy = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": chat.end_id, "pad_token_id": 0}
    expected = model.generate(prompt, attention_mask=torch.ones_like(prompt), **greedy)[0, prompt.shape[1] :]
    assert found.reply == chat.decode_reply(expected.tolist()).strip()
    assert (found.question, found.expected) == (QUESTION.content, "All: 72")


def test_replies_to_a_prompt_can_be_drawn(chat_tokenizer):
    model, prompt_format = tiny_gpt2(next_token_id(chat_tokenizer)), ChatPromptFormat(GraftFormat(chat_tokenizer))
    drawn = {
        answer(model, prompt_format, CONVERSATIONS[:1], 8, Sampling(temperature=2, seed=n))[0].reply for n in range(4)
    }
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("reply", "expected", "right"),
    [
        ("int", "int", True),
        ("`int`.", "int", True),
        ("'a'", '"a"', True),
        ("int or str", "int", False),
        ("Int", "int", False),
        ("", "int", False),
        ("", "''", False),  # an empty default is not an empty reply
        ("''", "''", True),
        ("2.", "2.", True),
        ("1 + 1 = 2 #### 2", "2", True),
        ("#### 3 so #### 2", "2", True),
        ("It is 2", "2", False),
        ("####", "2", False),
        ("#### 1080", "1,080", True),
        ("so $1,080.00.", "1080", False),
        ("$1,080.00.", "1080", True),
        ("#### -.5", "-0.50", True),
        ("10,80", "1080", False),
        ("1.2.3", "1.23", False),
        ("٣", "3", False),
    ],
)
def test_a_reply_is_right_if_it_is_the_answer(reply, expected, right):
    assert is_right(reply, expected) is right


def test_exact_match_counts_the_checkable_questions_alone():
    def answered(reply, expected):
        return Answered(Conversation((QUESTION, Message("assistant", "72")), "a:1", answer=expected), reply, True)

    replies = [answered("72", "72"), answered("73", "72"), answered("72", None), answered("7", None)]
    assert share_of_checkable([one.is_right for one in replies]) == 0.5
    assert share_of_checkable([one.is_right for one in replies[2:]]) == 0.0


@pytest.mark.parametrize(
    ("reply", "expected", "contained"),
    [
        ("The default of pass_number is 1.", "1", True),
        ("The default of pass_number is 1.5.", "1", False),
        ("pass_number1 is 10, 11 or 21.", "1", False),
        ("It costs $1,080.00 in all", "1080", True),
        ("It costs 1,0801 in all", "1080", False),
        ("version 1.2.3", "2", False),
        ("(0,1)", "1", False),  # digits that a comma joins are one number, as in is_right
        ("it falls from 3 to -5", "-5", True),
        ("it falls from 3 to -5", "5", False),
        ("10-5=5", "5", True),
        ("from .5 up", "0.50", True),
        ("It returns `None`, or 'x'.", "None", True),
        ("Its type is NoneType.", "None", False),
        ("It is none.", "None", False),
        ("It is a Tensor of ints.", "Tensor of ints", True),
        ("It is a Tensor\nof ints.", "Tensor of ints", True),
        ("It is a Tensor of intsy.", "Tensor of ints", False),
        ("Défaut: étés", "été", False),
        ("答えは東京です。", "東京", True),
        ("It has 72個 in all", "72", True),
        ("the default is ''.", "''", True),
        ("", "''", False),
        ("", "", True),
        ("a*b+c", "a*b", True),
        ("", "a*b", False),
    ],
)
def test_a_reply_contains_the_answer_where_it_stands_as_a_word(reply, expected, contained):
    assert contains_answer(reply, expected) is contained


@given(st.text(max_size=12), st.text(max_size=12))
@example("9" * 5000, "9" * 5000)
@example("1 #### 9" + "9" * 5000, "1")
def test_whoever_says_the_answer_exactly_contains_it(reply, expected):
    assert contains_answer(reply, expected) or not is_right(reply, expected)
    assert contains_answer(expected, expected)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_text_repeats_itself_from_the_third_time_on(times):
    assert repeats_itself(f"so {'the number of the ' * times}") is (times >= 3)


def test_repetition_is_that_of_four_words_in_a_row_wherever_they_stand():
    words = [*"abcd", "x", *"abcd", "y", *"abcd"]
    assert repeats_itself(" ".join(words)) and repeats_itself("\n\n".join(words))
    assert not repeats_itself("a b c x a b c y a b c z") and not repeats_itself("no no no no no")
    assert repeats_itself("no " * 6)
    brute_force = Counter(tuple(words[n : n + 4]) for n in range(len(words) - 3))
    assert brute_force.most_common(1) == [(("a", "b", "c", "d"), 3)]


def test_the_base_is_at_its_best_figure_by_figure():
    def scores(*figures):
        names = ("bits_per_byte", "exact_match", "answer_contained", "stop_rate", "repetition_rate")
        return Scores(**dict(zip(names, figures, strict=True)), conversations=10, checkable=4)

    three = [scores(2.0, 0.1, 0.3, 0.9, 0.5), scores(1.5, 0.0, 0.8, 0.2, 0.6), scores(3.0, 0.3, 0.3, 0.1, 0.4)]
    assert best_scores(three) == scores(1.5, 0.3, 0.8, 0.9, 0.4)


def _asking(content, reply="72", *before):
    return Conversation((*before, Message("user", content), Message("assistant", reply)), "a:1")


def test_a_conversation_fits_up_to_the_last_position_and_no_further(chat_tokenizer):
    model, prompt_format = tiny_gpt2(next_token_id(chat_tokenizer)), ChatPromptFormat(GraftFormat(chat_tokenizer))
    room = (
        POSITIONS - 1 - len(prompt_format.prompt_ids([Message("user", "")])) - len(known_reply(prompt_format, "72").ids)
    )
    fitting = [number for number in range(1, 2 * room) if fits(model, prompt_format, _asking(chr(1) * number))]
    assert fitting == list(range(1, room + 1)), "one id a character, up to the room and no more"
    answer(model, prompt_format, [_asking(chr(1) * room)], 8)  # and what fits can be answered


@pytest.mark.parametrize("number", [1, 3, 100])
def test_what_cannot_be_asked_is_not_asked(chat_tokenizer, number):
    model = tiny_gpt2(next_token_id(chat_tokenizer))
    models = [LocalModel(model, prompt_format) for prompt_format in _prompt_formats(chat_tokenizer).values()]
    without_question = Conversation((Message("assistant", "72"),), "a:9")
    conversations = [_asking("1+1?"), _asking(chr(1) * POSITIONS), without_question, _asking("", "72"), _asking("2?")]
    asked = choose_askable(conversations, number, models)
    assert asked == {1: [conversations[0]], 3: [conversations[0]], 100: [conversations[0], conversations[4]]}[number]
    evaluate_base(model, chat_tokenizer, asked, 4)


def test_where_nothing_can_be_asked_one_line_says_so(chat_tokenizer):
    model = tiny_gpt2(next_token_id(chat_tokenizer))
    with pytest.raises(InputError, match="none of 2 conversations has a question that fits the models' positions"):
        asked = ChatPromptFormat(GraftFormat(chat_tokenizer))
        choose_askable([_asking(chr(1) * POSITIONS)] * 2, 5, [LocalModel(model, asked)])
